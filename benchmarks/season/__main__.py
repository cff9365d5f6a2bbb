"""``make season``: plays each machine's two months with learning off and on; the last line is one JSON object."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import orjson
import typer

from benchmarks.season.life import draw
from benchmarks.season.live import LiveSeason, live_stories, live_values
from benchmarks.season.outcome import as_json, outcome
from benchmarks.season.person import DAY_US
from benchmarks.season.stories import Story, stories
from benchmarks.season.world import START_US, Told, play
from schemas.times import parse_rfc3339
from trainer.learning.learning_rule import LearningRule
from whirr.broker import EmbeddedBroker
from whirr.settings import load_settings


def _played(story: Story, days: float, seed: int, detector: str) -> tuple[str, dict[str, Told]]:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="whirr-season-") as folder:
        return story.machine_id, play(story, Path(folder), LearningRule(), days=days, seed=seed, detector=detector)


def season(  # noqa: PLR0917 - typer reads its options from the parameters
    days: Annotated[float, typer.Option(help="Length of the season.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of sounds, and of the person.")] = 0,
    machine: Annotated[list[str] | None, typer.Option(help="Only these; may be repeated.")] = None,
    detector: Annotated[str, typer.Option(help="As whirr train takes it.")] = "auto",
    jobs: Annotated[int, typer.Option(help="Machines at once.")] = 2,
    picture: Annotated[Path | None, typer.Option(help="Folder for a picture of each machine's life.")] = None,
    events: Annotated[bool, typer.Option(help="Print what happened to each machine.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="In short: a few days of three machines, through the real services.")
    ] = False,
) -> None:
    """Play the season."""
    if live:
        _play_live(seed, events)
        return
    if unknown := set(machine or ()) - {one.machine_id for one in stories()}:
        known = ", ".join(one.machine_id for one in stories())
        print(f"no machine {', '.join(sorted(unknown))}; expected some of {known}", file=sys.stderr)
        raise typer.Exit(2)
    chosen = {one.machine_id: one for one in stories() if not machine or one.machine_id in machine}
    told: dict[str, dict[str, Told]] = {}
    with ProcessPoolExecutor(jobs) as pool:
        waiting = [pool.submit(_played, one, days, seed, detector) for one in chosen.values()]
        for one in waiting:
            name, arms = one.result()
            told[name] = arms
            for arm, own in arms.items():
                found = as_json(outcome(chosen, {name: own}, days))
                print(f"{name:14} {arm:4} {found}", file=sys.stderr, flush=True)
                if picture is not None and arm == "on":
                    picture.mkdir(parents=True, exist_ok=True)
                    draw(chosen[name], own, picture / f"{name}.png")
                if events:
                    _print_events(own)
    amount = {
        f"learning_{arm}": as_json(outcome(chosen, {name: arms[arm] for name, arms in told.items()}, days))
        for arm in ("off", "on")
    }
    print(orjson.dumps(amount).decode())


def _play_live(seed: int, events: bool) -> None:
    """Play the short form, on the broker that the settings name, or on one of its own, in topics of its own."""
    logging.disable(logging.WARNING)
    names = ("frames_topic", "alerts_topic", "scores_topic", "verdicts_topic", "dead_letter_topic", "worker_id")
    own = {name: f"season-{uuid4().hex[:8]}" for name in (*names, "recordings_group")}
    with tempfile.TemporaryDirectory(prefix="whirr-season-") as text, ExitStack() as stack:
        folder, bootstrap = Path(text), load_settings().kafka_bootstrap_servers
        bootstrap = bootstrap or stack.enter_context(EmbeddedBroker()).bootstrap
        settings = load_settings(kafka_bootstrap_servers=bootstrap, **own, **live_values(folder))
        lived = asyncio.run(LiveSeason(settings, folder, live_stories(), seed=seed).play())
    chosen = {one.machine_id: one for one in live_stories()}
    if events:
        for name, arms in lived.told.items():
            print(name, file=sys.stderr)
            _print_events(arms["on"])
    print(orjson.dumps(lived.amount(chosen)).decode())


def _print_events(own: Told) -> None:
    lines = [(day, f"  {what}") for day, what in own.jobs]
    lines += [(day, f"  anchor: {what}") for day, what in own.departures]
    for one in own.alerts:
        ratio = "" if one.ratio is None else f"ratio {one.ratio:.2f}"
        what = " ".join((one.kind, one.state, one.severity, one.reason or "", one.incident_id[:6], ratio))
        lines.append(((parse_rfc3339(one.recorded_at) - START_US) / DAY_US, f"  {what}"))
    for day, what in sorted(lines):
        print(f"    {day:6.2f} {what}", file=sys.stderr)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    typer.run(season)
