"""``whirr rescore``: score the frames that Kafka retains with another model or rule."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from commands import _recordings as option
from whirr.outputs import check_folder

_MANY = 1_000_000  # how many frames a topic retains is known at its end


def rescore(
    out: option.Out = Path("rescore-out"),
    model: option.Model = None,
    routes: option.Routes = None,
    machine: Annotated[
        str,
        typer.Option(help="Only machines whose id matches this pattern (* ? \\[abc]).", rich_help_panel=option.KAFKA),
    ] = "*",
    since: Annotated[
        str | None,
        typer.Option(
            help="From when, as Kafka stored them: 10m, 2h, 7d, or a time (RFC 3339); default: all.",
            rich_help_panel=option.KAFKA,
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(help="Until when; default: now.", rich_help_panel=option.KAFKA)] = None,
    bootstrap: option.Bootstrap = None,
    topic: option.Topic = None,
    jobs: option.Jobs = None,
    restart: option.Restart = False,
    fail_if: option.FailIf = None,
    as_json: option.Json = False,
) -> None:
    """Score what the frames topic retains, and apply the alert rule; nothing is committed, and nothing sent.

    Writes what `whirr replay` writes.
    Exit codes: 0 done, 2 something can't be used, 3 Kafka can't be reached, 6 a --fail-if holds, 130 interrupted.
    """
    from backtest.replay.gates import parse_gate
    from backtest.replay.models import load, routes_of, settings_of
    from backtest.replay.rescoring import Range, rescore
    from backtest.replay.run import ReplayObserver
    from backtest.scoring import jobs_for
    from commands._replay import PrintingReplayObserver, conclude
    from whirr.alert_reader import parse_since

    check_folder(out, "--out")
    gates = [parse_gate(text) for text in fail_if or ()]
    option.end_as_interrupted()
    settings = settings_of(routes, kafka_bootstrap_servers=bootstrap, frames_topic=topic)
    now_us = time.time_ns() // 1000
    since_us = None if since is None else parse_since(since, now_us)
    until_us = None if until is None else parse_since(until, now_us)
    champions = load(routes_of(settings, model, use_routes=routes is not None), settings)
    wanted, processes = Range(since_us, until_us, machine), jobs_for(_MANY, jobs)
    with nullcontext(ReplayObserver()) if as_json else PrintingReplayObserver() as observer:
        summary = asyncio.run(rescore(out, settings, wanted, champions, processes, observer, restart=restart))
    conclude(summary, gates, as_json)
