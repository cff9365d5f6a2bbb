"""Raw PCM from a stream of bytes, such as ``arecord -t raw`` writes to a pipe."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt

from edge_agent.sources.feed import Feed
from edge_agent.sources.folder import OnError
from edge_agent.stretch import SAMPLE_BYTES, SampleKind, SignalFormat, Stretch
from whirr.errors import RecordingError, SettingsError

log = logging.getLogger(__name__)
PcmFormat = Literal["s16le", "s24le", "s32le", "f32le"]
PCM_FORMATS: tuple[PcmFormat, ...] = get_args(PcmFormat)
_KINDS: dict[PcmFormat, SampleKind] = {"s16le": "pcm16", "s24le": "pcm24", "s32le": "pcm32", "f32le": "float32"}


class PcmSource:
    """Interleaved little-endian samples, taken as they come.

    Args:
        stream: Where the bytes come from.
        rate_hz, channels, pcm_format: What they mean; ``s24le`` is packed in 3 bytes.
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
        pcm_format: PcmFormat = "s16le",
        on_error: OnError = "skip",
    ) -> None:
        if pcm_format not in PCM_FORMATS:
            raise SettingsError(f"sample format is {pcm_format!r}; expected one of {', '.join(PCM_FORMATS)}")
        self._stream, self._on_error = stream, on_error
        self._format = SignalFormat(rate_hz, channels, _KINDS[pcm_format])
        self._step = channels * SAMPLE_BYTES[self._format.kind]
        self._trailing = 0
        self.formats = (self._format,)

    def counts(self) -> dict[str, int]:
        """Return the bytes at the end that made no whole sample."""
        return {"trailing_bytes": self._trailing}

    async def __aiter__(self) -> AsyncIterator[Stretch]:
        """Yield what comes, at most a tenth of a second at a time."""
        most = max(1, self._format.rate_hz // 10) * self._step
        read = getattr(self._stream, "read1", self._stream.read)
        rest, first = b"", True
        async for data in Feed[bytes](lambda: read(most) or None):
            data = rest + data  # noqa: PLW2901 - a sample may be split between two reads
            if first and len(data) >= 4:
                first = False
                _refuse_wav(data)
            whole = len(data) // self._step * self._step
            rest = data[whole:]
            if whole:
                yield Stretch(samples_of(data[:whole], self._format), self._format)
        if rest:
            self._report(len(rest))

    def _report(self, trailing: int) -> None:
        self._trailing = trailing
        message = (
            f"the stream ends with {trailing} bytes of a sample; expected {self._step} "
            f"({self._format.channels} channels of {self._format.kind})"
        )
        if self._on_error == "fail":
            raise RecordingError(message)
        log.warning(message)


def samples_of(data: bytes, signal_format: SignalFormat) -> npt.NDArray[Any]:
    """Return little-endian interleaved bytes as samples ``[channels, n]``, of the type that the format's kind says."""
    flat: npt.NDArray[Any]
    if signal_format.kind == "pcm24":
        padded = np.zeros((len(data) // 3, 4), dtype=np.uint8)
        padded[:, 1:] = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
        flat = padded.view("<i4")[:, 0]
    else:
        flat = np.frombuffer(data, dtype={"pcm16": "<i2", "pcm32": "<i4", "float32": "<f4"}[signal_format.kind])
    return flat.reshape(-1, signal_format.channels).T


def _refuse_wav(data: bytes) -> None:
    """Refuse a WAV file where raw samples are expected: its header would be played as a click."""
    if data[:4] == b"RIFF":
        raise RecordingError("the stream is a WAV file; expected raw samples (arecord -t raw)")
