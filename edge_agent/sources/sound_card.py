"""A sound card, by way of PortAudio (the extra ``audio``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from edge_agent.sources.feed import WAITING
from edge_agent.stretch import SampleKind, SignalFormat, Stretch
from whirr.errors import MissingExtra, RecordingError

log = logging.getLogger(__name__)


class SoundCardSource:
    """What an input device records.

    Args:
        device: Number or part of the name of the device; None for the default one.
        rate_hz, channels: What to ask of it.
        bits: 16, or 24 for a card that has them.

    Raises:
        MissingExtra: The package sounddevice is not installed.
        RecordingError: PortAudio is missing, there is no such device, or it can't record like this.
    """

    live = True
    duration_s: float | None = None

    def __init__(self, device: str | None = None, *, rate_hz: int, channels: int = 1, bits: int = 16) -> None:
        self._sounddevice = _import_sounddevice()
        self._device = int(device) if device is not None and device.isdecimal() else device
        kind: SampleKind = "pcm16" if bits == 16 else "pcm24"
        self._format = SignalFormat(rate_hz, channels, kind)
        self._dtype = "int16" if bits == 16 else "int32"
        self.formats = (self._format,)
        self._overflows = 0
        self._blocks_lost = 0
        try:
            self._sounddevice.check_input_settings(self._device, channels, self._dtype, None, rate_hz)
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise RecordingError(
                f"no sound card {device or '(default)'!r} that records {channels} channels at {rate_hz} Hz: "
                f"{error} (`python -m sounddevice` lists the devices)"
            ) from None

    def counts(self) -> dict[str, int]:
        """Return how often the card overflowed, and blocks that came faster than they were taken."""
        return {"overflows": self._overflows, "blocks_lost": self._blocks_lost}

    async def __aiter__(self) -> AsyncIterator[Stretch]:
        """Yield what is recorded, a tenth of a second at a time."""
        loop = asyncio.get_running_loop()
        blocks: asyncio.Queue[Any] = asyncio.Queue(WAITING * 8)

        def take(block: Any, overflowed: bool) -> None:
            self._overflows += overflowed
            if blocks.full():
                self._blocks_lost += 1
            else:
                blocks.put_nowait(block)

        def record(block: Any, _frames: int, _time: Any, status: Any) -> None:
            # PortAudio's own thread, and its own memory: copy, hand over, return.
            loop.call_soon_threadsafe(take, np.array(block.T), bool(status.input_overflow))

        stream = self._sounddevice.InputStream(
            device=self._device,
            samplerate=self._format.rate_hz,
            channels=self._format.channels,
            dtype=self._dtype,
            blocksize=max(1, self._format.rate_hz // 10),
            callback=record,
        )
        with stream:
            while True:
                block = await blocks.get()
                # A 24 bit card's lowest byte is padding.
                yield Stretch(block if self._format.kind == "pcm16" else block & ~0xFF, self._format)


def _import_sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise MissingExtra("a sound card", "audio") from None
    except OSError as error:
        raise RecordingError(f"sounddevice can't load PortAudio: {error} (Debian: apt install libportaudio2)") from None
    return sounddevice
