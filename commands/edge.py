"""``whirr edge``: publish one machine's frames from a folder, standard input, a sound card or the simulator."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from commands._options import AsJson, Bootstrap, FramesTopic, SpoolDir, speed_of, start_us_of, takes
from commands._output import print_json, print_line, print_warning
from commands.edge_status import EdgeCommand
from edge_agent import (
    EdgeAgent,
    EdgeConfig,
    FrameOptions,
    LiveTimes,
    PlaybackTimes,
    Summary,
    SystemClock,
    sources,
)
from edge_agent.block import Source
from edge_agent.publisher import KafkaSink
from edge_agent.simulator import PlantOptions
from edge_agent.timeline import Timeline
from recordings import KINDS
from schemas.errors import SettingsError
from whirr.counts import counted
from whirr.options import option
from whirr.recording_options import Columns, OnError
from whirr.settings import load_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Where the signal comes from, when it was recorded, and whether its frames are kept on disk."""

    paths: Annotated[
        tuple[Path, ...], option(f"folders or files: {KINDS}", argument=True, repeated=True, metavar="PATHS")
    ] = ()
    stdin: Annotated[bool, option("raw PCM on standard input: arecord -t raw … |")] = False
    sound_card: Annotated[bool, option("record from a sound card (extra: audio)")] = False
    simulate: Annotated[str | None, option("simulate this machine of the plant", metavar="MACHINE")] = None
    machine: Annotated[str | None, option("machine id; default: the folder's name, or the simulated machine")] = None
    loop: Annotated[bool, option("begin anew after the last file; simulate without end")] = False
    speed: Annotated[str, option("times as fast as real time, or max; a folder or the simulator only")] = "1"
    start: Annotated[
        str | None,
        option(
            "when the first recording began (RFC 3339); default: now, or played faster, so long ago that "
            "the last ends now"
        ),
    ] = None
    rate: Annotated[int | None, option("samples a second, for --stdin, --sound-card, --simulate", ge=1)] = None
    channels: Annotated[int, option("channels, for --stdin and --sound-card", ge=1)] = 1
    sample_format: Annotated[
        str,
        option(
            "samples on standard input, as arecord -f names them: S16_LE, S24_3LE, S24_LE (24 bit in 4 "
            "bytes), S32_LE, FLOAT_LE, or …_BE",
            metavar="FORMAT",
        ),
    ] = "S16_LE"
    device: Annotated[str | None, option("sound card, by number or name; default: the system's")] = None
    simulated: PlantOptions = field(default_factory=PlantOptions)
    columns: Columns = ()
    on_error: OnError = "skip"
    order: Annotated[
        Literal["number", "name"], option("sort a folder by the numbers in its files' names, or by plain name")
    ] = "number"
    spool: Annotated[
        bool | None,
        option(
            "write frames to disk before they are sent; default: for --stdin and --sound-card, whose signal can't be "
            "had again"
        ),
    ] = None


@takes(Signal, FrameOptions, panel="Signal")
def edge(
    choice: Signal,
    frames: FrameOptions,
    *,
    bootstrap: Bootstrap = None,
    topic: FramesTopic = None,
    spool_dir: SpoolDir = None,
    as_json: AsJson = False,
) -> None:
    """Publish one machine's signal as frames to Kafka, in order, until the broker has acknowledged each.

    Give one source: audio files or folders, --stdin, --sound-card or --simulate. A folder is played once at the speed
    of real time; --speed plays it faster. Recording times advance with the recordings. Playing the same machine and
    source again within its own length makes frames that are late: give another --source or --start.

    `whirr edge status` tells what waits in the spool; a folder of that name is ./status.
    """
    settings = load_settings(kafka_bootstrap_servers=bootstrap, frames_topic=topic, edge_spool_dir=spool_dir)
    spooled = choice.stdin or choice.sound_card if choice.spool is None else choice.spool
    config = EdgeConfig(
        machine_id=_machine_id(choice),
        bootstrap=settings.bootstrap,
        topic=settings.frames_topic,
        spool_dir=settings.edge_spool_dir if spooled else None,
        spool_bytes=int(settings.edge_spool_mb * 1_000_000),
        backlog_bytes_per_s=settings.edge_backlog_kb_s * 1000,
        **asdict(frames),
    )
    _log_to_stderr(settings.log_level)
    made = _source(choice)
    sink = KafkaSink(settings.bootstrap, settings.frames_topic, settings)
    agent = EdgeAgent(config, made, _timeline(choice, made), sink=sink)
    _run(agent, config, as_json)


app = typer.Typer(add_completion=False)
app.command("edge", cls=EdgeCommand)(edge)


def _machine_id(choice: Signal) -> str:
    """Return whose frames they are; also check that exactly one source is given."""
    given = [bool(choice.paths), choice.stdin, choice.sound_card, choice.simulate is not None]
    if sum(given) != 1:
        raise SettingsError(f"{sum(given)} sources are given; expected one of PATHS, --stdin, --sound-card, --simulate")
    if choice.machine is not None:
        return choice.machine
    if choice.simulate is not None:
        return choice.simulate
    if not choice.paths:
        raise SettingsError("--stdin and --sound-card need --machine")
    names = {sources.folder_machine_id(path) for path in choice.paths}
    machine = names.pop()
    if names or machine is None:
        whose = ", ".join(sorted(name or "nobody" for name in {*names, machine}))
        raise SettingsError(f"the paths belong to {whose}; say whose signal it is with --machine")
    return machine


def _source(choice: Signal) -> Source:
    if choice.paths:
        return sources.FolderSource(
            choice.paths,
            loop=choice.loop,
            on_error=choice.on_error,
            order=choice.order,
            columns=choice.columns,
        )
    if choice.simulate is not None:
        simulated = choice.simulated
        machine = simulated.make().machine(choice.simulate, seed=simulated.seed, rate_hz=choice.rate)
        return sources.SimulatedSource(machine, seconds=None if choice.loop else simulated.seconds)
    if choice.sound_card:
        return sources.SoundCardSource(choice.device, rate_hz=choice.rate or 16_000, channels=choice.channels)
    if choice.rate is None:
        raise SettingsError("--stdin needs --rate: raw samples don't say how many there are a second")
    return sources.PcmSource(
        sys.stdin.buffer,
        rate_hz=choice.rate,
        channels=choice.channels,
        sample_format=choice.sample_format,
        on_error=choice.on_error,
    )


def _timeline(choice: Signal, source: Source) -> Timeline:
    if source.live:
        if choice.speed != "1" or choice.start is not None or choice.loop:
            raise SettingsError("--speed, --start and --loop are for folders and the simulator; live signal is now")
        return LiveTimes(SystemClock())
    start_us = None if choice.start is None else start_us_of(choice.start)
    return PlaybackTimes(SystemClock(), duration_s=source.duration_s, speed=speed_of(choice.speed), start_us=start_us)


def _run(agent: EdgeAgent, config: EdgeConfig, as_json: bool) -> None:
    """Run the agent until it ends or is asked to stop; print what it did, however it ended."""
    import asyncio
    import signal

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        if not as_json:
            print_line(f"{config.machine_id}: publishing to {config.topic} at {config.bootstrap}; Ctrl-C stops")
        await agent.run(stop)

    try:
        asyncio.run(main())
    finally:
        summary = agent.summary()
        if config.spool_dir is not None and summary.frames_unsent:
            waiting = counted(summary.frames_unsent, "frame waits", "frames wait")
            print_warning(f"{waiting} in the spool; the next run for this source sends what waits")
        if as_json:
            print_json(summary)
        else:
            _print_summary(summary)


def _print_summary(summary: Summary) -> None:
    print_line(
        f"{summary.machine_id}: {counted(summary.frames_sent, 'frame')}, {summary.bytes_sent / 1e6:.2f} MB sent; "
        f"{summary.frames_dropped} dropped, {summary.frames_unsent} unsent, "
        f"{counted(summary.retries, 'retry', 'retries')}"
    )
    if summary.frames_resumed:
        print_line(f"{counted(summary.frames_resumed, 'frame')} waited in the spool from an earlier run")
    if summary.recorded_from is not None:
        print_line(f"recorded from {summary.recorded_from} to {summary.recorded_until}")
    if summary.left_out_s:
        print_line(f"{summary.left_out_s:g} s at the ends of recordings were too short for a frame")
    for name, count in summary.source_counts.items():
        if count:
            print_line(f"{name.replace('_', ' ')}: {count}")


def _log_to_stderr(level: str) -> None:
    """Show the agent's own log lines; the Kafka client repeats itself, and the agent says what matters."""
    import logging

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print_warning(record.getMessage())

    logging.getLogger("aiokafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    agent = logging.getLogger("edge_agent")
    agent.handlers = [Lines()]
    agent.setLevel(level.upper())
