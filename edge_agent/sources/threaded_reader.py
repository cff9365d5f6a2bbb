"""A thread that reads, and an event loop that takes what was read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
WAITING = 8  # items read and not yet taken; then the thread waits


class ThreadedReader(Generic[Item]):
    """Calls ``read`` in a thread until it returns None, and yields what it returned.

    The thread is a daemon: a read that never returns (a pipe that nobody writes to) can't keep the program from ending.
    What ``read`` raises is raised to whoever takes the items.
    """

    def __init__(self, read: Callable[[], Item | None]) -> None:
        self._read = read

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Yield what was read until the end."""
        loop, items = asyncio.get_running_loop(), asyncio.Queue[Item | Exception | None]()
        room, ended = threading.Semaphore(WAITING), threading.Event()

        def hand_over(item: Item | Exception | None) -> None:
            room.acquire()
            if ended.is_set():
                return
            try:
                loop.call_soon_threadsafe(items.put_nowait, item)
            except RuntimeError:  # the event loop has gone
                ended.set()

        def work() -> None:
            try:
                while not ended.is_set() and (item := self._read()) is not None:
                    hand_over(item)
                hand_over(None)
            except Exception as error:
                hand_over(error)

        threading.Thread(target=work, name="whirr-feed", daemon=True).start()
        try:
            while (item := await items.get()) is not None:
                room.release()
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            ended.set()
            room.release(2)  # for an item that waits, and for the end after it
