"""Sources: folders of good and bad files, bytes on a pipe, the simulator, a sound card that is not there."""

from __future__ import annotations

import builtins
import bz2
import gzip
import io
import lzma
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile

from edge_agent.block import Block, Source
from edge_agent.simulator import make_plant
from edge_agent.sources import FolderSource, PcmSource, SimulatedSource, SoundCardSource, folder_machine_id
from edge_agent.sources.folder import Order, found
from recordings.samples import SignalFormat
from schemas.errors import MissingExtra, RecordingError, SettingsError


async def _all(source: Source) -> list[Block]:
    return [block async for block in source]


def _joined(blocks: list[Block]) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks], axis=1)


def _noise(samples: int = 2500, channels: int = 1, dtype: str = "int16") -> np.ndarray:
    random = np.random.default_rng(3)
    if dtype == "float32":
        return random.normal(0, 1.5, (channels, samples)).astype(np.float32)
    bits = np.iinfo(dtype)
    return random.integers(bits.min, bits.max, (channels, samples), dtype=dtype)


# Folders


@pytest.mark.parametrize(
    ("name", "subtype", "dtype", "kind"),
    [
        ("a.wav", "PCM_16", "int16", "pcm16"),
        ("a.flac", "PCM_16", "int16", "pcm16"),
        ("a.flac", "PCM_24", "int32", "pcm24"),
        ("a.wav", "PCM_24", "int32", "pcm24"),
        ("a.wav", "PCM_32", "int32", "pcm32"),
        ("a.wav", "FLOAT", "float32", "float32"),
        ("a.wav", "DOUBLE", "float32", "float32"),
    ],
)
async def test_a_file_is_read_as_it_was_written(tmp_path: Path, name: str, subtype: str, dtype: str, kind: Any) -> None:
    samples = _noise(channels=2, dtype=dtype)
    if subtype == "PCM_24":
        samples &= ~0xFF
    soundfile.write(tmp_path / name, samples.T, 1000, subtype=subtype)
    source = FolderSource([tmp_path])
    blocks = await _all(source)
    assert np.array_equal(_joined(blocks), samples)
    assert {block.format for block in blocks} == {SignalFormat(1000, 2, kind)} == set(source.formats)
    assert [block.ends_recording for block in blocks] == [False, False, True]
    assert source.duration_s == 2.5
    assert source.counts() == {"files_read": 1, "files_damaged": 0}


@pytest.mark.parametrize(("suffix", "subtype"), [(".ogg", "VORBIS"), (".mp3", "MPEG_LAYER_III")])
async def test_lossy_files_are_16_bit_and_never_wrap_around(tmp_path: Path, suffix: str, subtype: str) -> None:
    square = np.where(np.arange(32_000) % 40 < 20, 0.999, -0.999)  # a codec overshoots at its edges
    soundfile.write(tmp_path / f"a{suffix}", square, 16_000, subtype=subtype)
    (one,) = FolderSource([tmp_path]).formats
    heard = _joined(await _all(FolderSource([tmp_path])))[0].astype(np.int32)
    assert one == SignalFormat(16_000, 1, "pcm16")
    assert heard.max() == 32_767
    assert np.sum(np.abs(np.diff(heard)) > 40_000) <= 1600  # one for each edge


def _touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("number", ["normal_1.wav", "normal_2.WAV", "anomaly_3.wav", "anomaly_10.flac"]),
        ("name", ["anomaly_10.flac", "anomaly_3.wav", "normal_1.wav", "normal_2.WAV"]),
    ],
)
def test_order_of_a_folder(tmp_path: Path, order: Order, names: list[str]) -> None:
    _touch(tmp_path, *names, "truth.csv", "notes.txt")
    (tmp_path / "deeper.wav").mkdir()
    assert [path.name for path in found([tmp_path], order) if path.is_file()] == names


def test_paths_come_in_the_order_given(tmp_path: Path) -> None:
    _touch(tmp_path / "b", "1.wav")
    _touch(tmp_path / "a", "2.wav")
    paths = [tmp_path / "b", tmp_path / "a" / "2.wav", tmp_path / "b" / "1.wav"]
    assert [path.name for path in found(paths)] == ["1.wav", "2.wav", "1.wav"]


def test_whose_signal_a_folder_is(tmp_path: Path) -> None:
    _touch(tmp_path / "pump-1", "a.wav")
    (tmp_path / "pump-1" / "test").mkdir()
    for path in ("pump-1", "pump-1/test", "pump-1/a.wav"):
        assert folder_machine_id(tmp_path / path) == "pump-1"


def _folder_with_bad_files(folder: Path) -> None:
    good = _noise()
    soundfile.write(folder / "1.wav", good[0], 1000)
    (folder / "2.wav").write_bytes(os.urandom(3000))
    (folder / "3.flac").touch()
    soundfile.write(folder / "4.wav", np.zeros(0, np.int16), 1000)
    soundfile.write(folder / "5.wav", good[0], 1000)
    soundfile.write(folder / "6.flac", good[0], 1000)
    cut = (folder / "6.flac").read_bytes()
    (folder / "6.flac").write_bytes(cut[: len(cut) // 2])


async def test_damaged_files_are_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _folder_with_bad_files(tmp_path)
    source = FolderSource([tmp_path])
    blocks = await _all(source)
    assert source.counts() == {"files_read": 2, "files_damaged": 4}
    for name in ("2.wav", "3.flac", "4.wav", "6.flac"):
        assert sum(name in record.getMessage() for record in caplog.records) == 1
    assert _joined(blocks).shape[1] >= 5000
    assert blocks[-1].ends_recording


@pytest.mark.parametrize("name", ["2.wav", "3.flac", "4.wav", "6.flac"])
async def test_damaged_files_are_fatal_if_wished(tmp_path: Path, name: str) -> None:
    _folder_with_bad_files(tmp_path)
    with pytest.raises(RecordingError, match=name):
        await _all(FolderSource([tmp_path / "1.wav", tmp_path / name], on_error="fail"))


def test_nothing_usable(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(RecordingError, match="no usable audio in"):
        FolderSource([tmp_path])
    with pytest.raises(RecordingError, match="does not exist"):
        FolderSource([tmp_path / "nowhere"])


async def test_a_loop_begins_anew(tmp_path: Path) -> None:
    samples = _noise(1500)
    soundfile.write(tmp_path / "1.wav", samples[0], 1000)
    heard = []
    async for block in FolderSource([tmp_path], loop=True):
        heard.append(block)
        if len(heard) == 6:
            break
    assert np.array_equal(_joined(heard), np.tile(samples, 3))


async def test_a_loop_over_files_that_vanish_ends(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "1.wav", _noise(100)[0], 1000)
    source = FolderSource([tmp_path], loop=True)
    (tmp_path / "1.wav").unlink()
    with pytest.raises(RecordingError, match="of 1 file none could be read"):
        await _all(source)


# Standard input


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("sample_format", "dtype", "stored"),
    [
        ("s16le", "int16", "<i2"),
        ("S16_LE", "int16", "<i2"),
        ("S16_BE", "int16", ">i2"),
        ("s32le", "int32", "<i4"),
        ("S32_LE", "int32", "<i4"),
        ("s32_be", "int32", ">i4"),
        ("f32le", "float32", "<f4"),
        ("FLOAT_LE", "float32", "<f4"),
        ("FLOAT_BE", "float32", ">f4"),
    ],
)
async def test_raw_samples(sample_format: str, dtype: str, stored: str, channels: int) -> None:
    samples = _noise(1234, channels, dtype)
    source = PcmSource(
        io.BytesIO(samples.T.astype(stored).tobytes()), rate_hz=1000, channels=channels, sample_format=sample_format
    )
    assert np.array_equal(_joined(await _all(source)), samples)
    assert source.counts() == {"trailing_bytes": 0}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("sample_format", "stored", "first", "count"),
    [
        ("s24le", "<i4", 1, 3),
        ("S24_3LE", "<i4", 1, 3),
        ("S24_3BE", ">i4", 0, 3),
        ("S24_LE", "<i4", 1, 4),
        ("S24_BE", ">i4", -1, 4),
    ],
)
async def test_raw_samples_of_24_bit(sample_format: str, stored: str, first: int, count: int, channels: int) -> None:
    """A sample's three bytes by themselves, or as the lower ones of four, whose upper one may hold anything."""
    samples = _noise(1234, channels, "int32") & ~0xFF
    raw = samples.T.astype(stored).tobytes()
    data = b"".join(
        raw[at + 1 : at + 4] + b"\x5a" if (count, stored) == (4, "<i4") else b"\x5a" + raw[at : at + 3] if count == 4
        else raw[at + first : at + first + 3]
        for at in range(0, len(raw), 4)
    )  # fmt: skip
    source = PcmSource(io.BytesIO(data), rate_hz=1000, channels=channels, sample_format=sample_format)
    assert np.array_equal(_joined(await _all(source)), samples)
    assert source.formats == (SignalFormat(1000, channels, "pcm24"),)


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time, never a whole number of samples."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int = -1) -> bytes:
        taken, self.data = self.data[:7], self.data[7:]
        return taken


async def test_samples_split_between_reads() -> None:
    samples = _noise(500, 3)
    dribble: Any = Dribble(samples.T.astype("<i2").tobytes())
    source = PcmSource(dribble, rate_hz=1000, channels=3)
    assert np.array_equal(_joined(await _all(source)), samples)


async def test_a_stream_that_ends_within_a_sample(caplog: pytest.LogCaptureFixture) -> None:
    source = PcmSource(io.BytesIO(bytes(4003)), rate_hz=1000, channels=2)
    assert _joined(await _all(source)).shape == (2, 1000)
    assert source.counts() == {"trailing_bytes": 3}
    assert "ends with 3 bytes of a sample; expected 4" in caplog.text
    with pytest.raises(RecordingError, match="ends with 3 bytes"):
        await _all(PcmSource(io.BytesIO(bytes(4003)), rate_hz=1000, channels=2, on_error="fail"))


def _audio_file(container: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, _noise(8000)[0] / 32768, 8000, format=container, subtype=subtype)
    return file.getvalue()


_WAV = _audio_file("WAV")
_MP3 = _audio_file("MP3")


def _told(value: object) -> str:
    """Name a test by what is said of the file: the file's own bytes may differ from one process to the next."""
    return value if isinstance(value, str) else "file"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (_WAV, "a WAV file"),
        (b"RIFX" + _WAV[4:], r"a WAV file \(RIFX\)"),
        (b"RF64" + _WAV[4:], r"a WAV file \(RF64\)"),
        (b"BW64" + _WAV[4:], r"a WAV file \(BW64\)"),
        (_audio_file("W64"), "a Sony Wave64 file"),
        (_audio_file("AIFF"), "an AIFF file"),
        (_audio_file("AU"), "a Sun AU file"),
        (_audio_file("CAF"), "a Core Audio file"),
        (_audio_file("FLAC"), "a FLAC file"),
        (_audio_file("OGG", "VORBIS"), "an Ogg file"),
        (_MP3, "an MP3 file"),
        (b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + _MP3, r"a file with an ID3 tag \(MP3\)"),
    ],
    ids=_told,
)
@pytest.mark.parametrize("dribbled", [False, True])
async def test_an_audio_file_where_raw_samples_belong(data: bytes, name: str, dribbled: bool) -> None:
    stream: Any = Dribble(data) if dribbled else io.BytesIO(data)
    with pytest.raises(
        RecordingError, match=f"standard input holds {name}.*arecord -t raw.*`whirr edge FILE` plays it"
    ):
        await _all(PcmSource(stream, rate_hz=8000))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x20ftypM4A " + bytes(100), "an MP4 file"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), "a Matroska or WebM file"),
        (gzip.compress(_WAV), "a gzip file"),
        (bz2.compress(_WAV), "a bzip2 file"),
        (lzma.compress(_WAV), "an xz file"),
        (b"PK\x03\x04" + bytes(100), "a zip file"),
        (b"RIFF\x10\0\0\0AVI " + bytes(100), r"a RIFF file \(no WAV\)"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"<html>" + bytes(100), "an HTML page"),
    ],
    ids=_told,
)
async def test_another_file_where_raw_samples_belong(data: bytes, name: str) -> None:
    with pytest.raises(RecordingError, match=f"standard input holds {name}.*convert it first"):
        await _all(PcmSource(io.BytesIO(data), rate_hz=8000))


@pytest.mark.parametrize(
    "values", [np.full(4000, -1), np.zeros(4000), np.arange(-2000, 2000), np.full(4000, -5), np.tile([-1, 1], 2000)]
)
async def test_a_signal_is_not_taken_for_a_file(values: np.ndarray) -> None:
    """All bits set begin MPEG audio too, and what is about -5 looks like it."""
    samples = values.astype("<i2")
    source = PcmSource(io.BytesIO(samples.tobytes()), rate_hz=8000)
    assert np.array_equal(_joined(await _all(source))[0], samples)


async def test_a_stream_too_short_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    assert _joined(await _all(PcmSource(io.BytesIO(b"\x01\0\x02\0"), rate_hz=1000))).tolist() == [[1, 2]]
    with pytest.raises(RecordingError, match="a FLAC file"):
        await _all(PcmSource(io.BytesIO(b"fLaC"), rate_hz=1000))


async def test_a_reader_that_fails_is_heard() -> None:
    broken: Any = SimpleNamespace(read=lambda _size: os.read(-1, 1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        await _all(PcmSource(broken, rate_hz=1000))


async def test_leaving_a_pipe_that_nobody_writes_to() -> None:
    readable, writable = os.pipe()
    stream: BinaryIO
    with os.fdopen(readable, "rb") as stream, os.fdopen(writable, "wb") as pipe:
        pipe.write(bytes(200))
        pipe.flush()
        async for block in PcmSource(stream, rate_hz=1000):
            assert block.samples.shape[1] == 100
            break
        feeds = [thread for thread in threading.enumerate() if thread.name == "whirr-feed"]
        assert all(thread.daemon for thread in feeds)  # so a program can end while one reads
        pipe.close()
        for thread in feeds:
            thread.join(10)


def test_a_sample_format_that_is_none() -> None:
    unknown = "u8"
    with pytest.raises(SettingsError, match="expected one of S16_LE, S24_3LE, S24_LE, S32_LE, FLOAT_LE"):
        PcmSource(io.BytesIO(), rate_hz=1000, sample_format=unknown)


# The simulator


async def test_a_simulated_machine_has_a_length() -> None:
    source = SimulatedSource(make_plant("accelerometers", seconds=20).machine("fan-1"), seconds=2.5)
    blocks = await _all(source)
    assert [block.samples.shape for block in blocks] == [(3, 200), (3, 200), (3, 100)]
    assert [block.ends_recording for block in blocks] == [False, False, True]
    assert source.formats == (SignalFormat(200, 3, "pcm16"),)


# A sound card


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"pip install '\.\[audio\]'"):
        SoundCardSource(rate_hz=16_000)


def test_without_portaudio_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RecordingError, match="libportaudio2"):
        SoundCardSource(rate_hz=16_000)


class FakeSoundDevice(SimpleNamespace):
    """The part of sounddevice that is used: a card that records two blocks, the second with an overflow.

    After them it ends by itself (``then="stops"``), or gives nothing more; or it can't be started (``then="fails"``).
    """

    PortAudioError = type("PortAudioError", (Exception,), {})
    then = "gives nothing"

    def check_input_settings(self, device: Any, channels: int, dtype: str, _settings: Any, rate_hz: int) -> None:
        if device == "none":
            raise self.PortAudioError("Error querying device -1")

    def InputStream(  # noqa: N802
        self, *, callback: Any, finished_callback: Any, blocksize: int, channels: int, dtype: str, **_: Any
    ) -> Any:
        card = self

        class Stream:
            def __enter__(self) -> None:
                if card.then == "fails":
                    raise card.PortAudioError("Device unavailable [PaErrorCode -9985]")
                block = np.zeros((blocksize, channels), dtype)
                for value in (1, 2):
                    block[:] = value * 256
                    callback(block, blocksize, None, SimpleNamespace(input_overflow=value == 2))
                if card.then == "stops":
                    finished_callback()

            def __exit__(self, *_: object) -> None:
                card.closed = True
                finished_callback()  # PortAudio calls it then, too

        return Stream()


async def test_a_sound_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice())
    source = SoundCardSource("1", rate_hz=1000, channels=2)
    blocks = []
    async for block in source:
        blocks.append(block)
        if len(blocks) == 2:
            break
    assert [block.samples.shape for block in blocks] == [(2, 100), (2, 100)]
    assert [int(block.samples[0, 0]) for block in blocks] == [256, 512]  # copied: PortAudio reuses its memory
    assert source.counts() == {"overflows": 1, "blocks_lost": 0}


@pytest.mark.parametrize(
    ("then", "silent_after_s", "blocks", "words"),
    [
        ("gives nothing", 0.05, 2, "sound card 'USB Mic' has given nothing for 0.05 s"),
        ("stops", 3600.0, 2, "sound card 'USB Mic' has stopped recording"),
        ("fails", 3600.0, 0, "sound card 'USB Mic' can't be recorded from: Device unavailable"),
    ],
)
async def test_a_sound_card_that_is_unplugged(
    monkeypatch: pytest.MonkeyPatch, then: str, silent_after_s: float, blocks: int, words: str
) -> None:
    card = FakeSoundDevice(then=then, closed=False)
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    heard = aiter(SoundCardSource("USB Mic", rate_hz=1000, silent_after_s=silent_after_s))
    for _ in range(blocks):
        await anext(heard)
    with pytest.raises(RecordingError, match=words):
        await anext(heard)
    assert card.closed == (then != "fails")


async def test_blocks_that_nobody_takes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeSoundDevice(then="stops")
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    monkeypatch.setattr("edge_agent.sources.sound_card.WAITING", 1 / 8)
    source = SoundCardSource(rate_hz=1000)
    with pytest.raises(RecordingError, match=r"sound card '\(default\)' has stopped recording"):
        await _all(source)
    assert source.counts()["blocks_lost"] == 1


def test_no_such_sound_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice())
    with pytest.raises(RecordingError, match="no sound card 'none' that records 1 channels at 16000 Hz"):
        SoundCardSource("none", rate_hz=16_000)
