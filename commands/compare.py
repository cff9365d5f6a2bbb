"""``whirr compare``: whether a running worker answers as a replay in process does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from backtest.replay.replay_options import ReplayConfig
from commands._options import AsJson, Bootstrap, FramesTopic, speed_of, takes
from commands._output import print_json, print_line
from commands._recordings import Models, Speed, VerdictsFrom, check_out, end_as_interrupted, heeded_of
from schemas.errors import ReplayFailed
from whirr.counts import counted
from whirr.settings import Settings
from whirr.topics import admin_client

if TYPE_CHECKING:
    from backtest.replay.compare import Comparison

DIFFERENCES = "differences.jsonl"


@takes(ReplayConfig, Models)
def compare(
    config: ReplayConfig,
    models: Models,
    *,
    speed: Speed = "max",
    wait_s: Annotated[float, typer.Option(min=0, help="How long nothing may come before the rest is missing.")] = 60.0,
    verdicts: VerdictsFrom = None,
    bootstrap: Bootstrap = None,
    topic: FramesTopic = None,
    as_json: AsJson = False,
) -> None:
    """Replay recordings, publish them, and check that a running worker answers the same.

    The worker must publish scores. What differs is in OUT/differences.jsonl.
    Exit codes: 0 live is as in process, 2 something can't be used, 3 Kafka can't be reached, 6 live answers differ,
    130 interrupted.
    """
    from backtest.replay import compare as comparing
    from backtest.replay.routing import identity
    from backtest.replay.run import replay as run_replay
    from backtest.score_store import opened
    from commands._publishing import bar, print_published, send
    from commands._replay import PrintingReplayObserver, print_replay

    check_out(config.out, config.folder)
    end_as_interrupted()
    settings = models.settings(kafka_bootstrap_servers=bootstrap, frames_topic=topic)
    times_as_fast = speed_of(speed)
    asyncio.run(_reach(settings))  # before an hour is spent on a replay
    heeded = heeded_of(verdicts, settings)
    champions = models.load(settings)
    with PrintingReplayObserver(quiet=as_json) as observer:
        summary = run_replay(config, champions, observer, heeded)
    since_us = time.time_ns() // 1000 - 1_000_000
    with opened(config.out, {**config.what_scores_depend_on, "model": identity(champions)}) as store:
        sent = send(store, config, settings, times_as_fast)
        with bar("waiting for answers", summary["frames"]) as (progress, task):

            def answered(frames: int) -> None:
                progress.update(task, completed=frames)

            look = comparing.compare(
                store, champions.router, settings, since_us, wait_s, answered=answered, heeded=heeded
            )
            result = asyncio.run(look)
    path = config.out / DIFFERENCES
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in result.lines))
    if as_json:
        print_json({**summary, **sent, "comparison": result.as_dict()})
    else:
        print_replay(summary)
        print_published({**sent, "times": summary["times"]})
        _print_comparison(result, path)
    try:
        comparing.check_equal(result)
    except ReplayFailed as error:
        raise ReplayFailed(f"{error}; see {path}") from None


async def _reach(settings: Settings) -> None:
    async with admin_client(settings):
        pass


def _print_comparison(result: Comparison, path: Path) -> None:
    if result.equal:
        both = f"{counted(result.frames, 'frame')} and {counted(result.alerts, 'alert')}"
        print_line(f"live is as in process: {both} are the same", style="green")
    for line in result.lines[:3]:
        print_line(f"  {line['machine_id']} {line['recorded_at']}: {line['what']} {line.get('differences', '')}")
    if len(result.lines) > 3:
        print_line(f"  and {len(result.lines) - 3} more in {path}")
