"""``whirr record``: write frames that Kafka retains as audio files."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from commands._options import AsJson, Bootstrap, FramesTopic, MachinePattern, Since
from commands._output import print_json, print_line, print_warning
from whirr.outputs import check_folder


def record(
    out: Annotated[Path, typer.Option(help="Folder to write to: OUT/<machine>/… and OUT/recordings.csv.")],
    machine: MachinePattern = "*",
    since: Since = None,
    until: Annotated[str | None, typer.Option(help="Until when; default: now.")] = None,
    label: Annotated[
        Literal["normal", "anomaly"] | None, typer.Option(help="Label all of them so; train on normal ones.")
    ] = None,
    bootstrap: Bootstrap = None,
    topic: FramesTopic = None,
    as_json: AsJson = False,
) -> None:
    """Write retained frames as audio files that `whirr train` and `whirr replay` understand. Kafka is only read.

    Each file is the frame as it was sent; its name tells when it was recorded. The same command again adds what is new.
    Exit codes: 0 done, 2 there is no such topic, 3 Kafka can't be reached, 5 it refuses this user.
    """
    from backtest.replay.record import record as write
    from backtest.replay.rescoring import Range, records_of
    from whirr.alert_reader import parse_since
    from whirr.settings import load_settings

    check_folder(out, "--out")
    settings = load_settings(kafka_bootstrap_servers=bootstrap, frames_topic=topic)
    now_us = time.time_ns() // 1000
    wanted = Range(
        None if since is None else parse_since(since, now_us),
        None if until is None else parse_since(until, now_us),
        machine,
    )
    summary = asyncio.run(write(records_of(settings, wanted), out, label))
    if as_json:
        print_json(summary)
        return
    already = f", {summary['already_there']} were there already" if summary["already_there"] else ""
    print_line(f"{summary['written']} frames written to {out}{already}; {summary['audio_s']:.0f} s of signal")
    for name, count in summary["machines"].items():
        print_line(f"  {name}  {count}")
    if summary["skipped"]:
        reasons = ", ".join(f"{count} {code}" for code, count in summary["skipped"].items())
        print_warning(f"{sum(summary['skipped'].values())} records are no usable frames ({reasons}); left out")
    if not summary["machines"]:
        print_warning(f"no frame of machine {machine!r} is retained in that time on {settings.frames_topic!r}")
