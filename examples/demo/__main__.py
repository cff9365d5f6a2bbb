"""``python -m examples.demo``: simulate or take recordings, train, play them through Kafka, and report the outcome."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from commands._output import marked, print_error, print_json
from examples.demo import machines as machines_module
from examples.demo.live import Played, play, playing_speed, remove_topics
from examples.demo.machines import DemoMachine
from examples.demo.outcome import DemoOutcome, machine_outcome, summarise
from examples.demo.report import alert_line, lost_lines, summary_table
from examples.demo.training import train_models, write_settings
from schemas.errors import WhirrError
from whirr import process
from whirr.broker import EmbeddedBroker
from whirr.outputs import make_anew
from whirr.settings import Settings, load_settings

OUT = Path("demo-out")
TERMINATED = 128 + signal.SIGTERM


def demo(
    wav_dir: Annotated[
        Path | None, typer.Option(help="DIR/<machine>/train/* and DIR/<machine>/test/{normal,anomaly}*")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for recordings, models, logs and the picture; made anew")] = OUT,
    seconds: Annotated[float, typer.Option(help="Simulated: length of the story", min=60)] = 240.0,
    train_seconds: Annotated[float, typer.Option(help="Simulated: healthy signal to train on", min=30)] = 300.0,
    seed: Annotated[int, typer.Option(help="Seed of simulation and training", min=0)] = 0,
) -> None:
    """Show the whole path: train on healthy machines, play them through Kafka, print each alert as it comes."""
    began_s = time.monotonic()
    make_anew(out, "demo")
    marked.rule("[bold]Whirr: recordings go in on Kafka, alerts come out", align="left")
    plant = _machines(wav_dir, out, seconds, train_seconds, seed)
    models = train_models(plant, out, seed)
    write_settings(plant, models, out / "whirr.toml")
    start_us = _start_us(plant)
    with _broker() as settings:
        try:
            played = asyncio.run(_play(plant, settings, out, start_us))
        except asyncio.CancelledError:
            sys.exit(TERMINATED)
        finally:
            _end_on_sigterm()  # the event loop has put the system's default back
    outcome = _report(plant, played, start_us, out)
    marked.print(f"[dim]{time.monotonic() - began_s:.0f} s in all; models, logs and whirr.toml are in {out}/[/]\n")
    print_json(outcome.as_dict())
    strict = wav_dir is None
    if outcome.lost or (strict and (outcome.missed or outcome.false_alerts)):
        raise typer.Exit(1)


def _machines(wav_dir: Path | None, out: Path, seconds: float, train_seconds: float, seed: int) -> list[DemoMachine]:
    if wav_dir is not None:
        plant = machines_module.recorded(wav_dir)
        marked.print(f"[bold]1[/]  {len(plant)} machines recorded in {wav_dir}")
    else:
        if not marked.is_terminal:
            marked.print("[bold]1[/]  simulating")
        with marked.status("1  simulating") as status:
            plant = machines_module.simulated(
                out / "plant", seconds, train_seconds, seed, lambda name: status.update(f"1  simulating {name}")
            )
        marked.print(
            f"[bold]1[/]  simulated {len(plant)} machines: {train_seconds:g} s healthy to train on, "
            f"{seconds:g} s to play"
        )
    for machine in plant:
        marked.print(f"     {machine.machine_id:14} {_story(machine)}")
    return plant


def _story(machine: DemoMachine) -> str:
    if machine.onset_s is not None:
        return f"[red]{machine.fault} from {machine.onset_s:.0f} s[/]"
    if machine.off:
        from_s, to_s = machine.off[0]
        return f"healthy, switched off from {from_s:.0f} s to {to_s:.0f} s"
    return "healthy"


def _start_us(plant: list[DemoMachine]) -> int:
    """Return a recording time such that the longest recording ends now: nothing is played that is yet to come."""
    longest_s = max(machine.live_s for machine in plant)
    return time.time_ns() // 1000 - round((longest_s + 1) * 1e6)


@contextlib.contextmanager
def _broker() -> Iterator[Settings]:
    """Yield settings with topics of the demo's own, on the broker that the settings name or else an embedded one."""
    mark = uuid4().hex[:8]
    names = {
        "frames_topic": f"whirr-demo-{mark}-frames",
        "alerts_topic": f"whirr-demo-{mark}-anomalies",
        "scores_topic": f"whirr-demo-{mark}-scores",
        "dead_letter_topic": f"whirr-demo-{mark}-frames.dlq",
        "worker_id": f"whirr-demo-{mark}",
        "web_port": process.free_port(),
    }
    given = load_settings()
    if given.kafka_bootstrap_servers is not None:
        marked.print(f"[bold]3[/]  Kafka at {given.bootstrap}")
        settings = load_settings(**names)
        try:
            yield settings
        finally:
            asyncio.run(remove_topics(settings))
        return
    began_s = time.monotonic()
    with EmbeddedBroker() as broker:
        marked.print(f"[bold]3[/]  embedded broker at {broker.bootstrap}, up in {time.monotonic() - began_s:.1f} s")
        yield load_settings(kafka_bootstrap_servers=broker.bootstrap, **names)


async def _play(plant: list[DemoMachine], settings: Settings, out: Path, start_us: int) -> Played:
    # An exception raised by a handler can get lost where Python ignores exceptions; a cancelled task can't.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    by_id = {machine.machine_id: machine for machine in plant}
    speed = playing_speed(plant)
    expected = sum(int(machine.live_s / machine.frame_s) for machine in plant)
    columns = (TextColumn("   "), BarColumn(40), TextColumn("{task.completed} frames"), TimeElapsedColumn())
    with Progress(*columns, console=marked, transient=True) as progress:
        bar = progress.add_task("", total=expected)
        return await play(
            plant,
            settings,
            out,
            start_us,
            speed,
            on_alert=lambda alert: progress.console.print(alert_line(alert, by_id[alert["machine_id"]], start_us)),
            on_ready=lambda: progress.console.print(
                f"[bold]4[/]  worker ready; {len(plant)} edge agents play at {speed:.3g} x; alerts as they come:"
            ),
            on_progress=lambda frames: progress.update(bar, completed=frames),
        )


def _report(plant: list[DemoMachine], played: Played, start_us: int, out: Path) -> DemoOutcome:
    from examples.demo.picture import draw

    picture = out / "demo.png"
    draw(plant, played.received, start_us, picture)
    found = [machine_outcome(machine, played.received, start_us) for machine in plant]
    marked.print(f"\n[bold]5[/]  what happened; the picture is {picture}\n")
    table = summary_table(found)
    if not marked.print_table(table):
        marked.print(table)
    if played.damaged:
        marked.print(f"   [yellow]{played.damaged} recordings could not be read to their end; see {out}/edge-*.log[/]")
    for reason in sorted({letter.reason for letter in played.received.dead_letters.values()})[:5]:
        marked.print(f"   dead letter: {reason}")
    for line in lost_lines(played.published, played.received, start_us):
        marked.print(line)
    return summarise(sum(played.published.values()), played.received, found)


def _end_on_sigterm() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))


def main() -> None:
    """Run the demo; SIGTERM ends it as Ctrl-C does, so that every process is stopped."""
    _end_on_sigterm()
    try:
        typer.run(demo)
    except WhirrError as error:
        print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
