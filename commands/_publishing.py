"""What ``whirr publish`` and ``whirr compare`` share: sending with a progress bar, and what is said of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from backtest.replay.publish import publish
from backtest.replay.replay_options import ReplayConfig
from backtest.score_store import ScoreStore
from commands._output import print_error, print_line, stderr
from whirr.counts import counted
from whirr.settings import Settings


def send(store: ScoreStore, config: ReplayConfig, settings: Settings, speed: float) -> dict[str, Any]:
    """Publish the frames of the recordings in a store, and return what was sent."""
    began_s = time.monotonic()
    with bar("publishing", store.counts().frames) as (progress, task):

        def acknowledged(frames: int) -> None:
            progress.update(task, completed=frames)

        folder = str(config.folder)
        sent = asyncio.run(publish(store, folder, settings, speed, acknowledged, columns=config.columns))
    return {
        "frames_sent": sent.frames,
        "bytes_sent": sent.bytes,
        "unreadable": sent.unreadable,
        "topic": settings.frames_topic,
        "publish_s": round(time.monotonic() - began_s, 3),
    }


def print_published(sent: dict[str, Any]) -> None:
    """Print what was sent."""
    line = f"{counted(sent['frames_sent'], 'frame')}, {sent['bytes_sent'] / 1e6:.2f} MB sent to {sent['topic']}"
    print_line(f"{line} in {sent['publish_s']:.1f} s; times from {sent['times']}")
    if sent["unreadable"]:
        print_error(f"{counted(sent['unreadable'], 'frame')} could not be read from their recordings; not sent")


@contextmanager
def bar(what: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    """Show a progress bar on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        yield progress, progress.add_task(what, total=total)
