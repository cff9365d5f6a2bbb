"""``whirr verdicts``: lists what people said of incidents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from commands._options import AsJson, Bootstrap, MachinePattern, Since
from commands._output import cell, print_json, print_line, stdout
from schemas.errors import SettingsError
from schemas.times import parse_rfc3339
from whirr.outputs import check_file
from whirr.settings import Settings, load_settings

if TYPE_CHECKING:
    from schemas.verdict import Verdict

_STYLES = {
    "confirmed": "bold red",
    "false_alarm": "yellow",
    "repaired": "green",
    "new_normal": "cyan",
    "withdrawn": "dim",
}


def verdicts(
    everything: Annotated[
        bool, typer.Option("--all", help="Every verdict ever given (the audit log), not each incident's newest alone.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Write what they say of recordings to this CSV file, for --labels of train, evaluate and replay.",
            show_default=False,
        ),
    ] = None,
    machine: MachinePattern = "*",
    since: Since = None,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """List what people said of incidents, oldest first. Reads only: nothing is committed.

    Exit codes: 3 Kafka can't be reached, 5 it refuses this user.
    """
    from whirr.alert_reader import parse_since
    from whirr.verdicts import audit_log, newest

    if labels is not None:
        if everything or since is not None:
            raise SettingsError("--labels is of each incident's newest verdict; expected no --all or --since with it")
        check_file(labels, "--labels")
    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    since_us = None if since is None else parse_since(since, time.time_ns() // 1000)
    found = asyncio.run(audit_log(settings)) if everything else list(asyncio.run(newest(settings)).values())
    shown = [
        one
        for one in found
        if fnmatchcase(one.machine_id, machine) and (since_us is None or parse_rfc3339(one.time) >= since_us)
    ]
    if labels is not None:
        _write(settings, labels, shown, as_json)
    elif as_json:
        for one in shown:
            print_json(one)
    elif not shown:
        print_line(f"no verdicts on {settings.verdicts_topic}" + (" that fit" if found else ""))
    else:
        _print(shown)


def _write(settings: Settings, file: Path, found: Sequence[Verdict], as_json: bool) -> None:
    from whirr.label_spans import spans_of, write_spans
    from whirr.verdicts import incidents

    ended = {name: one.ended_at for name, one in asyncio.run(incidents(settings)).items()}
    spans = spans_of(found, ended)
    try:
        write_spans(file, spans)
    except OSError as error:
        raise SettingsError(f"--labels: {str(file)!r} can't be written ({error.strerror})") from None
    faults = [span for span in spans if span.label == "anomaly"]
    if as_json:
        print_json({"file": str(file), "anomalies": len(faults), "normals": len(spans) - len(faults)})
    else:
        print_line(f"{file}: {len(faults)} times of faults, {len(spans) - len(faults)} of normals")


def _print(found: Sequence[Verdict]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("given (UTC)", "incident", "machine", "verdict", "by", "what"):
        table.add_column(name, overflow="fold", no_wrap=name in ("given (UTC)", "incident", "verdict"))
    for one in found:
        where = one.machine_id + (f"/{one.source}" if one.source else "")
        told = (one.fault, one.since and f"since {_time(one.since)}", one.note)
        table.add_row(
            cell(_time(one.time)),
            cell(one.incident_id[:12]),
            cell(where),
            Text(one.verdict, _STYLES.get(one.verdict, "")),
            cell(one.by),
            cell("; ".join(text for text in told if text)),
        )
    stdout.print(table)


def _time(text: str) -> str:
    return text.replace("T", " ")[:19]
