"""Decoding: every value ends as a signal or as a rejection with a known code."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recordings import Audio, decode, read_recording
from schemas import ERROR_CODES
from schemas.errors import FrameRejected, RecordingError
from schemas.frame import MAX_VALUE_BYTES
from tests.helpers import SHARED_DATA, needs_shared_data

GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
STEP = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "PCM_32": 2.0**-23, "FLOAT": 0.0}  # float32 holds 24 bits of 32


def noise(channels: int = 1, n: int = 1_600, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, n)).astype(np.float32)


def encoded(samples: np.ndarray, rate_hz: int = 16_000, container: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.T, rate_hz, format=container, subtype=subtype)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def wav(
    body: bytes,
    *,
    tag: int = 1,
    channels: int = 1,
    rate_hz: int = 16_000,
    bits: int = 16,
    size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
    block: int | None = None,
) -> bytes:
    """A WAV file whose every header field can lie."""
    block = channels * bits // 8 if block is None else block
    fmt = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits)
    content = b"WAVE" + chunk(b"fmt ", fmt) + before + chunk(b"data", body, size)
    return b"RIFF" + struct.pack("<I", len(content) if riff_size is None else riff_size) + content


def code_of(value: bytes) -> str:
    with pytest.raises(FrameRejected) as caught:
        decode(value)
    assert caught.value.code in ERROR_CODES
    assert caught.value.detail
    return caught.value.code


def assert_signal_or_known_code(value: bytes) -> None:
    try:
        audio = decode(value)
    except FrameRejected as error:
        assert error.code in ERROR_CODES  # noqa: PT017
    else:
        assert audio.samples.dtype == np.float32
        assert audio.samples.flags.c_contiguous
        assert np.isfinite(audio.samples).all()
        assert 0.1 <= audio.duration_s <= 60


class TestRoundTrips:
    @settings(deadline=None, max_examples=60)
    @given(
        container=st.sampled_from(
            [
                ("WAV", "PCM_16"),
                ("WAV", "PCM_24"),
                ("WAV", "PCM_32"),
                ("WAV", "FLOAT"),
                ("WAVEX", "PCM_16"),
                ("WAVEX", "PCM_24"),
                ("WAVEX", "FLOAT"),
                ("FLAC", "PCM_16"),
                ("FLAC", "PCM_24"),
            ]
        ),
        channels=st.integers(1, 8),
        rate_hz=st.sampled_from([200, 8_000, 16_000, 25_600, 44_100, 192_000]),
        duration_s=st.floats(0.1, 0.2),
        seed=st.integers(0, 9),
    )
    def test_within_one_step(
        self, container: tuple[str, str], channels: int, rate_hz: int, duration_s: float, seed: int
    ) -> None:
        samples = noise(channels, int(np.ceil(duration_s * rate_hz)), seed)
        audio = decode(encoded(samples, rate_hz, *container))
        assert audio.rate_hz == rate_hz
        assert audio.samples.shape == samples.shape
        assert audio.samples.dtype == np.float32
        assert audio.samples.flags.c_contiguous
        np.testing.assert_allclose(audio.samples, samples, rtol=0, atol=STEP[container[1]])

    @pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
    def test_equals_libsndfile(self, subtype: str) -> None:
        value = encoded(noise(3), subtype=subtype)
        expected, _ = soundfile.read(io.BytesIO(value), dtype="float32", always_2d=True)
        np.testing.assert_array_equal(decode(value).samples, expected.T)

    def test_full_scale(self) -> None:
        body = np.array([-32768, 32767] * 800, "<i2").tobytes()
        np.testing.assert_array_equal(decode(wav(body)).samples[0, :2], np.array([-1, 32767 / 32768], np.float32))

    def test_duration(self) -> None:
        assert Audio(np.zeros((2, 400), np.float32), 200).duration_s == 2.0


class TestWavHeaders:
    def test_chunks_around_the_data_are_skipped_odd_ones_with_their_padding(self) -> None:
        body = noise()[0].tobytes()
        value = wav(body, tag=3, bits=32, before=chunk(b"LIST", b"odd")) + chunk(b"id3 ", b"tail")
        np.testing.assert_array_equal(decode(value).samples, noise())

    @pytest.mark.parametrize("size", [3_201, 4_000, 1 << 20, 0x7FFE0000, 0xFFFE0000])
    def test_a_claim_of_more_than_is_there_is_truncated(self, size: int) -> None:
        assert code_of(wav(bytes(3_200), size=size, riff_size=size + 36)) == "truncated"

    @pytest.mark.parametrize("size", [3_201, 3_244, 4_000, 1 << 20])
    def test_a_claim_of_more_than_the_whole_file_claims_is_no_cut(self, size: int) -> None:
        value = wav(noise()[0].tobytes(), tag=3, bits=32, size=size + 3_200)
        np.testing.assert_array_equal(decode(value).samples, noise())

    def test_riff_that_is_no_wave_is_no_audio_whatever_else_it_holds(self) -> None:
        value = bytearray(encoded(noise()))
        value[8:12] = b"AVI "
        assert code_of(bytes(value)) == "not_audio"

    def test_every_cut_of_a_file_is_rejected(self) -> None:
        value = encoded(noise())
        for length in range(len(value)):
            assert code_of(value[:length]) in {"truncated", "not_audio"}

    @pytest.mark.parametrize(
        "size", [0, 0xFFFFFFFF, 0xFFFFFFDB, 0x80000000, 0x7FFFFFFF, 0x7FFFFFDB, 0x7FFFFF00, 0x7FFFF000]
    )
    def test_a_recorder_that_wrote_to_a_pipe_is_believed_by_what_is_there(self, size: int) -> None:
        value = wav(noise()[0].tobytes(), tag=3, bits=32, size=size, riff_size=0xFFFFFFFF)
        np.testing.assert_array_equal(decode(value).samples, noise())

    def test_soxs_placeholder_is_rounded_down_to_whole_samples(self) -> None:
        value = wav(bytes(6 * 1_600), channels=2, bits=24, size=0x7FFFF000 // 6 * 6, riff_size=0x7FFFF024)
        assert decode(value).samples.shape == (2, 1_600)

    def test_an_honest_zero_is_empty_even_with_chunks_behind_it(self) -> None:
        content = wav(b"")[8:] + chunk(b"LIST", bytes(8_000))
        assert code_of(b"RIFF" + struct.pack("<I", len(content)) + content) == "too_short"

    def test_half_a_sample_at_the_end_is_left_out(self) -> None:
        assert decode(wav(bytes(3_203))).samples.shape == (1, 1_601)

    @pytest.mark.parametrize(
        ("tag", "bits"), [(1, 8), (1, 64), (3, 64), (2, 4), (6, 8), (7, 8), (0x55, 0), (0x11, 4), (3, 16), (1, 0)]
    )
    def test_other_encodings_are_unsupported(self, tag: int, bits: int) -> None:
        assert code_of(wav(bytes(8_000), tag=tag, bits=bits)) == "encoding_unsupported"

    def test_extensible_with_a_foreign_subformat_is_unsupported(self) -> None:
        fmt = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, 16, 4, 1)
        for tail, code in ((GUID_TAIL, None), (bytes(14), "encoding_unsupported")):
            content = b"WAVE" + chunk(b"fmt ", fmt + tail) + chunk(b"data", bytes(3_200))
            value = b"RIFF" + struct.pack("<I", len(content)) + content
            assert (decode(value).samples.shape == (1, 1_600)) if code is None else (code_of(value) == code)

    def test_contradictions_are_no_audio(self) -> None:
        assert code_of(wav(bytes(3_200), channels=0)) == "not_audio"
        assert code_of(wav(bytes(3_200), block=7)) == "not_audio"
        assert code_of(b"RIFF\x10\0\0\0WAVE" + chunk(b"data", bytes(8))) == "not_audio"
        assert code_of(b"RIFF\x10\0\0\0WAVE" + chunk(b"fmt ", bytes(4)) + chunk(b"data", bytes(8))) == "not_audio"

    def test_a_file_of_nothing_but_chunks_is_given_up_early(self) -> None:
        value = b"RIFF\0\0\0\0WAVE" + chunk(b"JUNK", b"") * 100_000
        assert code_of(value) == "not_audio"


class TestLimits:
    @pytest.mark.parametrize(
        ("channels", "rate_hz", "n", "code"),
        [
            (1, 16_000, 0, "too_short"),
            (1, 16_000, 1_599, "too_short"),
            (1, 16_000, 1_600, None),
            (1, 200, 20, None),
            (1, 100, 6_000, None),
            (1, 100, 6_001, "too_long"),
            (8, 192_000, 19_200, None),
            (1, 99, 99, "rate_unsupported"),
            (1, 0, 99, "rate_unsupported"),
            (1, 384_001, 99_000, "rate_unsupported"),
            (65, 1_000, 200, "channels_mismatch"),
        ],
    )
    def test_wav(self, channels: int, rate_hz: int, n: int, code: str | None) -> None:
        value = wav(bytes(2 * channels * n), channels=channels, rate_hz=rate_hz)
        if code is None:
            assert decode(value).samples.shape == (channels, n)
        else:
            assert code_of(value) == code

    @pytest.mark.slow
    def test_60_s_of_192_khz_in_8_channels_is_refused_by_its_header(self, monkeypatch: pytest.MonkeyPatch) -> None:
        value = _flac_of_silence(channels=8, rate_hz=192_000, seconds=60)
        assert len(value) < MAX_VALUE_BYTES
        monkeypatch.setattr(sys.modules[decode.__module__], "SndFile", None)  # calling it would fail otherwise
        assert code_of(value) == "too_many_samples"

    @pytest.mark.slow
    @pytest.mark.parametrize("claimed", [0, 16_000])
    def test_decoding_stops_at_the_limit_when_the_header_hides_the_length(
        self, claimed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        value = _with_total(_flac_of_silence(channels=8, rate_hz=192_000, seconds=60), claimed)
        read = soundfile.SoundFile.read
        decoded = []

        def counting(self: soundfile.SoundFile, *args: object, **kwargs: object) -> np.ndarray:
            block = read(self, *args, **kwargs)
            decoded.append(block.size)
            return block

        monkeypatch.setattr(soundfile.SoundFile, "read", counting)
        if claimed:
            assert_signal_or_known_code(value)
        else:
            assert code_of(value) in {"too_many_samples", "not_audio", "too_short"}
        assert sum(decoded) <= 4_000_008

    def test_a_long_value_of_silence(self) -> None:
        assert decode(wav(bytes(MAX_VALUE_BYTES - 44))).duration_s == pytest.approx(31.25, abs=0.01)


def _flac_of_silence(channels: int, rate_hz: int, seconds: int) -> bytes:
    buffer = io.BytesIO()
    block = np.zeros((rate_hz, channels), np.int16)
    with soundfile.SoundFile(buffer, "w", rate_hz, channels, "PCM_16", format="FLAC") as file:
        for _ in range(seconds):
            file.write(block)
    return buffer.getvalue()


def _with_total(flac: bytes, total: int) -> bytes:
    """Replace the 36 bits of STREAMINFO that count the samples."""
    packed = int.from_bytes(flac[18:26], "big") >> 36 << 36 | total
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


class TestFlac:
    def test_8_bit_is_unsupported(self) -> None:
        assert code_of(encoded(noise(), container="FLAC", subtype="PCM_S8")) == "encoding_unsupported"

    def test_cut_short_is_truncated(self) -> None:
        value = encoded(noise(n=16_000), container="FLAC")
        assert code_of(value[: len(value) // 2]) in {"truncated", "not_audio"}
        assert code_of(value[:30]) == "truncated"

    def test_a_header_that_claims_more_than_there_is(self) -> None:
        value = _with_total(encoded(noise(n=16_000), container="FLAC"), 32_000)
        assert code_of(value) in {"truncated", "not_audio"}

    def test_an_unknown_length_is_taken_as_it_comes(self) -> None:
        value = _with_total(encoded(noise(n=16_000), container="FLAC"), 0)
        np.testing.assert_allclose(decode(value).samples, noise(n=16_000), atol=2.0**-15)

    def test_another_first_block_is_no_audio(self) -> None:
        assert code_of(b"fLaC" + b"\x04\0\0\x22" + bytes(60)) == "not_audio"


class TestNotFinite:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_is_rejected_with_its_place(self, bad: float) -> None:
        samples = noise(2)
        samples[1, 77] = bad
        with pytest.raises(FrameRejected, match="sample 77 of channel 1") as caught:
            decode(encoded(samples, subtype="FLOAT"))
        assert caught.value.code == "not_finite"


class TestEveryValue:
    @given(st.binary(max_size=300))
    def test_random_bytes(self, value: bytes) -> None:
        assert_signal_or_known_code(value)

    @given(
        st.sampled_from(
            [b"RIFF....WAVE", b"RIFF\0\0\0\0WAVEfmt ", b"fLaC", b"fLaC\0\0\0\x22", b"RIFX....WAVE", b"OggS", b"ID3"]
        ),
        st.binary(max_size=200),
    )
    def test_random_bytes_behind_a_magic(self, magic: bytes, rest: bytes) -> None:
        assert_signal_or_known_code(magic + rest)

    @settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
    @given(
        value=st.sampled_from(
            [
                encoded(noise(2)),
                encoded(noise(), subtype="FLOAT"),
                encoded(noise(), container="WAVEX", subtype="PCM_24"),
                encoded(noise(2), container="FLAC"),
                encoded(noise(), container="FLAC", subtype="PCM_24"),
            ]
        ),
        changes=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), min_size=1, max_size=6),
        cut=st.integers(0, 200),
    )
    def test_mutated_headers(self, value: bytes, changes: list[tuple[int, int]], cut: int) -> None:
        mutated = bytearray(value)
        for position, byte in changes:
            mutated[position] = byte
        assert_signal_or_known_code(bytes(mutated[: len(mutated) - cut]))

    @pytest.mark.parametrize("value", [b"", b"R", b"RIFF", bytes(100), b"\xff" * 999_999, b"<html>" * 100])
    def test_no_audio(self, value: bytes) -> None:
        assert code_of(value) == "not_audio"


class TestRecordings:
    @pytest.mark.parametrize(
        ("suffix", "container", "subtype"),
        [
            (".wav", "WAV", "PCM_16"),
            (".flac", "FLAC", "PCM_24"),
            (".ogg", "OGG", "VORBIS"),
            (".mp3", "MP3", None),
            (".WAV", "WAV", "FLOAT"),
        ],
    )
    def test_four_kinds(self, tmp_path: Path, suffix: str, container: str, subtype: str | None) -> None:
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
        path = tmp_path / f"recording{suffix}"
        soundfile.write(path, np.stack([tone, -tone], axis=1), 16_000, format=container, subtype=subtype)
        audio = read_recording(path)
        assert (audio.rate_hz, audio.samples.shape[0]) == (16_000, 2)
        assert audio.duration_s == pytest.approx(2, abs=0.2)
        assert audio.samples.flags.c_contiguous
        assert np.std(audio.samples[0]) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)

    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("missing.wav", None, "no such file"),
            ("noise.wav", b"no audio at all", "can't be decoded"),
            ("notes.doc", b"text", "suffix '.doc'"),
            ("empty.wav", wav(b""), "holds no samples"),
            ("nan.wav", wav(np.full(100, np.nan, "<f4").tobytes(), tag=3, bits=32), "sample 0 of channel 0 is nan"),
        ],
    )
    def test_errors_name_the_file(self, tmp_path: Path, name: str, content: bytes | None, expected: str) -> None:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RecordingError, match=expected) as caught:
            read_recording(path)
        assert name in str(caught.value)

    @needs_shared_data
    def test_real_recordings_decode_the_same_as_a_frame_and_as_a_file(self) -> None:
        paths = [
            next((SHARED_DATA / folder).rglob(pattern))
            for folder, pattern in (("motor", "*.*"), ("femto", "*.flac"), ("cwru", "*.wav"))
        ]
        for path in paths:
            np.testing.assert_array_equal(decode(path.read_bytes()).samples, read_recording(path).samples)
