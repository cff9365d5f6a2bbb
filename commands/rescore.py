"""``whirr rescore``: score the frames that Kafka retains with another model or rule."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from backtest.replay.replay_options import ReplayConfig
from commands._options import AsJson, Bootstrap, FramesTopic, MachinePattern, Since, option_of, takes
from commands._recordings import FailIf, Models, VerdictsFrom, end_as_interrupted, heeded_of
from whirr.outputs import check_folder

_MANY = 1_000_000  # how many frames a topic retains is known at its end


@takes(Models)
def rescore(
    models: Models,
    *,
    out: Annotated[Path, option_of(ReplayConfig, "out")] = Path("rescore-out"),
    machine: MachinePattern = "*",
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="Until when; default: now.")] = None,
    bootstrap: Bootstrap = None,
    topic: FramesTopic = None,
    jobs: Annotated[int | None, option_of(ReplayConfig, "jobs")] = None,
    verdicts: VerdictsFrom = None,
    restart: Annotated[bool, option_of(ReplayConfig, "restart", "--restart")] = False,
    fail_if: FailIf = None,
    as_json: AsJson = False,
) -> None:
    """Score what the frames topic retains, and apply the alert rule; nothing is committed, and nothing sent.

    Writes what `whirr replay` writes.
    Exit codes: 0 done, 2 something can't be used, 3 Kafka can't be reached, 6 a --fail-if holds, 130 interrupted.
    """
    from backtest.replay.gates import parse_gate
    from backtest.replay.rescoring import Range
    from backtest.replay.rescoring import rescore as run_rescoring
    from backtest.scoring import jobs_for
    from commands._replay import PrintingReplayObserver, conclude
    from whirr.alert_reader import parse_since

    check_folder(out, "--out")
    gates = [parse_gate(text) for text in fail_if or ()]
    end_as_interrupted()
    settings = models.settings(kafka_bootstrap_servers=bootstrap, frames_topic=topic)
    now_us = time.time_ns() // 1000
    since_us = None if since is None else parse_since(since, now_us)
    until_us = None if until is None else parse_since(until, now_us)
    heeded = heeded_of(verdicts, settings)
    champions = models.load(settings)
    wanted, processes = Range(since_us, until_us, machine), jobs_for(_MANY, jobs)
    with PrintingReplayObserver(quiet=as_json) as observer:
        summary = asyncio.run(
            run_rescoring(out, settings, wanted, champions, processes, observer, restart=restart, heeded=heeded)
        )
    conclude(summary, gates, as_json)
