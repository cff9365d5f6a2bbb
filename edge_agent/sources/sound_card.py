"""A sound card, by way of PortAudio (the extra ``audio``)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from edge_agent.block import Block
from edge_agent.sources.threaded_reader import WAITING
from recordings.samples import SampleKind, SignalFormat
from schemas.errors import MissingExtra, RecordingError

log = logging.getLogger(__name__)
SILENT_AFTER_S = 5.0


class SoundCardSource:
    """What an input device records.

    Args:
        device: Number or part of the name of the device; None for the default one.
        rate_hz, channels: What to ask of it.
        bits: 16, or 24 for a card that has them.
        silent_after_s: A card that gives no block for so long is taken for gone; some say nothing when unplugged.

    Raises:
        MissingExtra: The package sounddevice is not installed.
        RecordingError: PortAudio is missing, there is no such device, or it can't record like this.
    """

    live = True
    duration_s: float | None = None

    def __init__(
        self,
        device: str | None = None,
        *,
        rate_hz: int,
        channels: int = 1,
        bits: int = 16,
        silent_after_s: float = SILENT_AFTER_S,
    ) -> None:
        self._sounddevice = _import_sounddevice()
        self._silent_after_s = silent_after_s
        self._name = repr(device or "(default)")
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
                f"no sound card {self._name} that records {channels} channels at {rate_hz} Hz: "
                f"{error} (`python -m sounddevice` lists the devices)"
            ) from None

    def counts(self) -> dict[str, int]:
        """Return how often the card overflowed, and blocks that came faster than they were taken."""
        return {"overflows": self._overflows, "blocks_lost": self._blocks_lost}

    async def __aiter__(self) -> AsyncIterator[Block]:
        """Yield what is recorded, a tenth of a second at a time.

        Raises:
            RecordingError: The card can't be started, has stopped, or gives nothing any more.
        """
        blocks: asyncio.Queue[Any] = asyncio.Queue()
        try:
            with self._stream(blocks):
                while True:
                    block = await self._next(blocks)
                    # A 24 bit card's lowest byte is padding.
                    yield Block(block if self._format.kind == "pcm16" else block & ~0xFF, self._format)
        except self._sounddevice.PortAudioError as error:
            raise RecordingError(f"sound card {self._name} can't be recorded from: {error}") from None

    def _stream(self, blocks: asyncio.Queue[Any]) -> Any:
        """Return a stream that puts each block ``[channels, n]`` into the queue, and None when it has stopped."""
        loop = asyncio.get_running_loop()

        def take(block: Any, overflowed: bool) -> None:
            self._overflows += overflowed
            if blocks.qsize() >= WAITING * 8:
                self._blocks_lost += 1
            else:
                blocks.put_nowait(block)

        def record(block: Any, _frames: int, _time: Any, status: Any) -> None:
            # PortAudio's own thread, and its own memory: copy, hand over, return.
            loop.call_soon_threadsafe(take, np.array(block.T), bool(status.input_overflow))

        def finish() -> None:
            with contextlib.suppress(RuntimeError):  # the event loop has gone
                loop.call_soon_threadsafe(blocks.put_nowait, None)

        return self._sounddevice.InputStream(
            device=self._device,
            samplerate=self._format.rate_hz,
            channels=self._format.channels,
            dtype=self._dtype,
            blocksize=max(1, self._format.rate_hz // 10),
            callback=record,
            finished_callback=finish,
        )

    async def _next(self, blocks: asyncio.Queue[Any]) -> Any:
        try:
            async with asyncio.timeout(self._silent_after_s):
                block = await blocks.get()
        except TimeoutError:
            raise RecordingError(
                f"sound card {self._name} has given nothing for {self._silent_after_s:g} s; is it still plugged in?"
            ) from None
        if block is None:
            raise RecordingError(f"sound card {self._name} has stopped recording; is it still plugged in?")
        return block


def _import_sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise MissingExtra("a sound card", "audio") from None
    except OSError as error:
        raise RecordingError(f"sounddevice can't load PortAudio: {error} (Debian: apt install libportaudio2)") from None
    return sounddevice
