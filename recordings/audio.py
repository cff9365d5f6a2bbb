"""One reader of recordings: rate, channels and length without decoding, and samples of any part.

A WAV file of PCM or float is read here (:mod:`recordings.wav`), everything else by libsndfile. A frame's bytes
are decoded by the same code (:mod:`recordings.frames`), which takes fewer kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from recordings.chunks import unread_behind
from recordings.columns import Selection
from recordings.flac import FlacHeader, is_flac, parse_flac, unread_after
from recordings.magic import kind_of
from recordings.samples import SampleKind, SignalFormat
from recordings.sndfile import ERRORS, SndFile
from recordings.sources import File, RangeFile, extent
from recordings.wav import KINDS, WavHeader, is_wav, parse_wav, read_wav
from schemas.errors import FrameRejected
from schemas.frame import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ

FRAME_ENCODINGS: Final = frozenset({"i2", "i3", "i4", "i4low", "f4"})  # of WAV
FRAME_FLAC_BITS: Final = frozenset({16, 24})


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """What a recording holds.

    Attributes:
        rate_hz, channels, samples: Samples are per channel.
        kind: What its samples are read as, without loss where the file has none.
        encoding: For people: ``16 bit PCM``, ``OGG VORBIS``.
        seekable: Whether any part can be read by itself; else all before it is decoded.
        unfit: Why a worker would refuse the file's own bytes, were they short enough; None if it takes them.
        columns: Of a table: what was taken as channels, and what was left out.
        warning: What looks wrong about its samples, though they are read as they are; None if nothing does.
    """

    rate_hz: int
    channels: int
    samples: int
    kind: SampleKind
    encoding: str
    seekable: bool
    unfit: str | None
    columns: Selection | None = None
    warning: str | None = None

    @property
    def format(self) -> SignalFormat:
        """Rate, channels and kind of its samples."""
        return SignalFormat(self.rate_hz, self.channels, self.kind)


class AudioFile:
    """An open audio file.

    Args:
        path: Where it is.

    Raises:
        RecordingError: It is no file that can be opened.
        FrameRejected: It can't be read: ``not_audio``, ``encoding_unsupported`` or ``truncated``.
    """

    def __init__(self, path: Path) -> None:
        self._source = File(path)
        self._wav: WavHeader | None = None
        self._library: SndFile | None = None
        try:
            self.info = self._looked_at(path)
            check_format(self.info.rate_hz, self.info.channels)
        except FrameRejected:
            self.close()
            raise

    def _looked_at(self, path: Path) -> RecordingInfo:
        source = self._source
        if source.size == 0:
            raise FrameRejected("not_audio", "it is empty (0 bytes); expected audio")
        begin, end = extent(source)
        head = source.read(begin, 12)
        if is_wav(head):
            self._wav = parse_wav(source, begin, end)
        if self._wav is not None and self._wav.encoding is not None:
            return _wav_info(self._wav)
        # The library looks for itself where the audio begins.
        return self._flac(path, begin, end) if is_flac(head) else self._foreign(path)

    def close(self) -> None:
        """Close what is open."""
        if self._library is not None:
            self._library.close()
        self._source.close()

    def read(self, start: int, count: int) -> NDArray[Any]:
        """Return samples ``[channels, n]`` of the file's kind; fewer than ``count`` where it ends.

        Raises:
            FrameRejected: ``not_audio``: they can't be decoded.
        """
        count = max(0, min(count, self.info.samples - start))
        if self._wav is not None and self._wav.encoding is not None:
            return read_wav(self._source, self._wav, start, count)
        assert self._library is not None
        try:
            (self._library.seek if self.info.seekable else self._library.skip_to)(start)
            return self._library.read(count)
        except ERRORS as error:
            raise undecodable(self.info.encoding, error) from None

    def unread(self) -> int:
        """Return how many bytes after the samples are not read, texts and marks aside; a FLAC is looked through."""
        if self._wav is not None:
            return self._wav.unread
        begin, end = extent(self._source)
        return (unread_after if is_flac(self._source.read(begin, 4)) else unread_behind)(self._source, begin, end)

    def _flac(self, path: Path, begin: int, end: int) -> RecordingInfo:
        header = parse_flac(self._source, begin, end)
        file = path if (begin, end) == (0, self._source.size) else RangeFile(self._source, begin, end)
        library = self._library = _opened(lambda: SndFile(file), "FLAC")
        if (library.format, library.channels, library.rate_hz) != ("FLAC", header.channels, header.rate_hz):
            raise FrameRejected("not_audio", f"decodes as {library.format}, {library.channels} channels")
        samples, sure = header.frames, True
        if header.frames == 0 or not library.reaches(header.frames - 1):
            samples, sure = _counted(library, "FLAC"), header.frames != 0
            if samples < header.frames:
                raise FrameRejected("truncated", f"the header says {header.frames} samples; {samples} decode")
            samples = header.frames or samples
        return _library_info(library, samples, sure, flac_unfit(header))

    def _foreign(self, path: Path) -> RecordingInfo:
        head = self._source.read(0, 12)
        library = self._library = _opened(lambda: SndFile(path), _named(head))
        if library.rate_hz < 1 or library.channels < 1:
            raise FrameRejected("not_audio", f"{library.channels} channels at {library.rate_hz} Hz")
        # Where an MP3 decoder lands when it is sent to a place depends on where it comes from.
        samples, sure = library.claimed, library.seekable and "MP3" not in library.name and "MPEG" not in library.name
        if samples > 0 and not library.reaches(samples - 1):
            samples, sure = _counted(library, library.name), False
        return _library_info(library, samples, sure, f"{library.name}; expected WAV (PCM, float) or FLAC")


def check_format(rate_hz: int, channels: int) -> None:
    """Hold rate and channels against what a frame may have, and so a recording.

    Raises:
        FrameRejected: ``rate_unsupported`` or ``channels_mismatch``.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise FrameRejected("rate_unsupported", f"{rate_hz} Hz; expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    if channels > MAX_CHANNELS:
        raise FrameRejected("channels_mismatch", f"{channels} channels; expected at most {MAX_CHANNELS}")


def wav_unfit(header: WavHeader) -> str | None:
    """Return why a frame can't have a WAV file's encoding; None if it can."""
    if header.encoding in FRAME_ENCODINGS:
        return None
    return f"WAV with {header.name}; expected PCM with 16, 24 or 32 bits or float with 32"


def flac_unfit(header: FlacHeader) -> str | None:
    """Return why a frame can't have a FLAC file's encoding; None if it can."""
    return None if header.bits in FRAME_FLAC_BITS else f"FLAC with {header.bits} bits; expected 16 or 24"


def _wav_info(header: WavHeader) -> RecordingInfo:
    assert header.encoding is not None
    kind, unfit = KINDS[header.encoding], wav_unfit(header)
    return RecordingInfo(header.rate_hz, header.channels, header.frames, kind, header.name, True, unfit)


def unread_words(unread: int) -> str | None:
    """Say how much of a file lies behind the data that its header states; None where nothing does."""
    if not unread:
        return None
    return (
        f"{unread} bytes after the data that the header states are not read; was it written before the recording "
        "ended, or are there several recordings in one file?"
    )


def _library_info(library: SndFile, samples: int, seekable: bool, unfit: str | None) -> RecordingInfo:
    return RecordingInfo(library.rate_hz, library.channels, samples, library.kind, library.name, seekable, unfit)


def _named(head: bytes) -> str:
    kind = kind_of(head)
    return f"what begins with {head.hex(' ')!r}" if kind is None else kind.name


def _opened(opening: Callable[[], SndFile], what: str) -> SndFile:
    try:
        return opening()
    except ERRORS as error:
        raise undecodable(what, error) from None


def _counted(library: SndFile, what: str) -> int:
    try:
        return library.count()
    except ERRORS as error:
        raise undecodable(what, error) from None


def undecodable(what: str, error: BaseException) -> FrameRejected:
    """Return the error that says that the library can't decode what it should."""
    # The library's own words begin with what it tried to open, and end with a full stop.
    words = (getattr(error, "error_string", None) or str(error)).rsplit(": ", 1)[-1].strip().rstrip(".")
    return FrameRejected("not_audio", f"can't be read: {what} can't be decoded ({words or type(error).__name__})"[:300])
