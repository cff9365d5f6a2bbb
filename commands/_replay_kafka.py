"""What ``whirr replay`` does with Kafka: publish a folder, compare with live answers, re-score what is retained."""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from backtest.replay.config import ReplayConfig
from backtest.replay.finding import Finder
from backtest.replay.models import identity
from backtest.replay.run import ReplayObserver
from backtest.replay.run import replay as run_replay
from backtest.replay.scoring import jobs_for
from backtest.replay.store import opened
from commands._output import print_error, print_json, print_line, print_notes, stderr
from commands._replay import PrintingReplayObserver, QuietReplayObserver, print_replay
from schemas.errors import ReplayFailed, SettingsError
from stream_app.pipeline import Router
from stream_app.worker.models import Champions
from whirr.settings import Settings

if TYPE_CHECKING:
    from backtest.replay.compare import Comparison

DIFFERENCES = "differences.jsonl"
_MANY = 1_000_000


def speed_of(text: str) -> float:
    """Return the speed that ``1``, ``10`` or ``max`` means.

    Raises:
        SettingsError: It means none.
    """
    try:
        speed = math.inf if text == "max" else float(text)
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise SettingsError(f"--speed is {text!r}; expected a number above 0, or max")
    return speed


def publish_folder(
    config: ReplayConfig, settings: Settings, champions: Champions | None, speed: float
) -> dict[str, Any]:
    """Publish a folder's frames, and return what was sent."""
    from backtest.replay.publish import publish

    router = Router(()) if champions is None else champions.router
    # Scores play no part in this, so what --out may hold of them is left alone.
    with tempfile.TemporaryDirectory(prefix="whirr-replay-") as folder, opened(Path(folder), {}) as store:
        found = Finder(config, store, router, lambda _files: None).find()
        print_notes(found.notes)
        began_s = time.monotonic()
        with _bar("publishing", store.counts().frames) as (progress, task):
            sent = asyncio.run(
                publish(
                    store,
                    str(config.folder),
                    settings,
                    speed,
                    lambda frames: progress.update(task, completed=frames),
                    columns=config.columns,
                )
            )
    told: dict[str, Any] = {"frames_sent": sent.frames, "bytes_sent": sent.bytes, "unreadable": sent.unreadable}
    seconds = round(time.monotonic() - began_s, 3)
    told |= {"topic": settings.frames_topic, "times": found.times, "notes": list(found.notes), "publish_s": seconds}
    return told


def compare_folder(
    config: ReplayConfig, settings: Settings, champions: Champions, speed: float, wait_s: float, *, as_json: bool
) -> dict[str, Any]:
    """Replay a folder in process, publish it, and compare what a worker answers.

    Raises:
        ReplayFailed: The answers differ; what differs is in ``differences.jsonl``.
    """
    from backtest.replay.compare import check_equal, compare

    with nullcontext(QuietReplayObserver()) if as_json else PrintingReplayObserver() as observer:
        summary = run_replay(config, champions, observer)
    since_us = time.time_ns() // 1000 - 1_000_000
    sent = publish_folder(config, settings, champions, speed)
    depends_on = {**config.what_scores_depend_on, "model": identity(champions)}
    with opened(config.out, depends_on) as store, _bar("waiting for answers", summary["frames"]) as (progress, task):
        result = asyncio.run(
            compare(
                store,
                champions.router,
                settings,
                since_us,
                wait_s,
                lambda frames: progress.update(task, completed=frames),
            )
        )
    path = config.out / DIFFERENCES
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in result.lines))
    if as_json:
        print_json({**summary, **sent, "comparison": result.as_dict()})
    else:
        print_replay(summary)
        _print_comparison(result, sent, path)
    try:
        check_equal(result)
    except ReplayFailed as error:
        raise ReplayFailed(f"{error}; see {path}") from None
    return summary


def rescore_topic(
    out: Path,
    settings: Settings,
    champions: Champions,
    *,
    since: str | None,
    until: str | None,
    machine: str,
    jobs: int | None,
    restart: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Re-score what the frames topic retains, and return the summary."""
    from backtest.replay.rescoring import Range, rescore
    from whirr.alerts import parse_since

    now_us = time.time_ns() // 1000
    since_us = None if since is None else parse_since(since, now_us)
    until_us = None if until is None else parse_since(until, now_us)
    wanted = Range(since_us, until_us, machine)
    with nullcontext(ReplayObserver()) if as_json else PrintingReplayObserver() as observer:
        return asyncio.run(rescore(out, settings, wanted, champions, jobs_for(_MANY, jobs), observer, restart=restart))


def print_published(sent: dict[str, Any]) -> None:
    """Print what was sent."""
    line = f"{sent['frames_sent']} frames, {sent['bytes_sent'] / 1e6:.2f} MB sent to {sent['topic']}"
    print_line(f"{line} in {sent['publish_s']:.1f} s; times from {sent['times']}")
    if sent["unreadable"]:
        print_error(f"{sent['unreadable']} frames could not be read from their recordings; not sent")


def _print_comparison(result: Comparison, sent: dict[str, Any], path: Path) -> None:
    print_published(sent)
    if result.equal:
        same = f"live is as in process: {result.frames} frames and {result.alerts} alerts are the same"
        print_line(same, style="green")
    for line in result.lines[:3]:
        print_line(f"  {line['machine_id']} {line['recorded_at']}: {line['what']} {line.get('differences', '')}")
    if len(result.lines) > 3:
        print_line(f"  and {len(result.lines) - 3} more in {path}")


@contextmanager
def _bar(what: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        yield progress, progress.add_task(what, total=total)
