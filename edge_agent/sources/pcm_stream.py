"""Raw PCM from a stream of bytes, such as ``arecord -t raw`` writes to a pipe."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import BinaryIO

from edge_agent.block import Block
from edge_agent.sources.folder import OnError
from edge_agent.sources.threaded_reader import ThreadedReader
from recordings.magic import bytes_needed, kind_of
from recordings.pcm import PCM_FORMATS, pcm_format, samples_of
from recordings.samples import SignalFormat
from schemas.errors import RecordingError, SettingsError

log = logging.getLogger(__name__)


class PcmSource:
    """Interleaved samples, taken as they come; a stream that begins as a known kind of file does is refused.

    Args:
        stream: Where the bytes come from.
        rate_hz, channels: What they mean.
        sample_format: As ALSA names it: ``S16_LE``, ``S24_3LE`` (packed), ``S24_LE`` (in 4 bytes) …
        on_error: Whether a stream that ends within a sample is an error (``fail``), or is only reported.

    Raises:
        SettingsError: The format is unknown.
        RecordingError: Rate or channels are out of range.
    """

    live = True
    duration_s: float | None = None

    def __init__(
        self,
        stream: BinaryIO,
        *,
        rate_hz: int,
        channels: int = 1,
        sample_format: str = "S16_LE",
        on_error: OnError = "skip",
    ) -> None:
        written = pcm_format(sample_format)
        if written is None:
            raise SettingsError(f"sample format is {sample_format!r}; expected one of {', '.join(PCM_FORMATS)}")
        self._stream, self._on_error, self._written, self._name = stream, on_error, written, sample_format
        self._format = SignalFormat(rate_hz, channels, written.kind)
        self._step = channels * written.sample_bytes
        self._trailing = 0
        self.formats = (self._format,)

    def counts(self) -> dict[str, int]:
        """Return the bytes at the end that made no whole sample."""
        return {"trailing_bytes": self._trailing}

    async def __aiter__(self) -> AsyncIterator[Block]:
        """Yield what comes, at most a tenth of a second at a time."""
        most = max(1, self._format.rate_hz // 10) * self._step
        read = getattr(self._stream, "read1", self._stream.read)
        rest, seen = b"", False
        async for data in ThreadedReader[bytes](lambda: read(most) or None):
            rest += data
            if not seen:
                if len(rest) < bytes_needed(rest):
                    continue
                seen = True
                _refuse_files(rest)
            whole = len(rest) // self._step * self._step
            if whole:
                yield Block(samples_of(rest[:whole], self._written, self._format.channels), self._format)
            rest = rest[whole:]
        if not seen:
            _refuse_files(rest)
            if whole := len(rest) // self._step * self._step:
                yield Block(samples_of(rest[:whole], self._written, self._format.channels), self._format)
            rest = rest[whole:]
        if rest:
            self._report(len(rest))

    def _report(self, trailing: int) -> None:
        self._trailing = trailing
        message = (
            f"the stream ends with {trailing} bytes of a sample; expected {self._step} "
            f"({self._format.channels} channels of {self._name})"
        )
        if self._on_error == "fail":
            raise RecordingError(message)
        log.warning(message)


def _refuse_files(head: bytes) -> None:
    """Refuse a file where raw samples are expected: its header, or all that is compressed in it, would be noise."""
    kind = kind_of(head)
    if kind is None:
        return
    taken = (
        "`whirr edge FILE` plays it" if kind.is_audio else "unpack or convert it first, such as with ffmpeg -f s16le"
    )
    raise RecordingError(f"standard input holds {kind.name}; expected raw samples (arecord -t raw …): {taken}")
