"""``whirr alerts``: prints the alerts that workers have raised."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from commands._options import AsJson, Bootstrap, MachinePattern
from commands._output import print_json, print_json_text, print_line, print_warning, stdout
from schemas.errors import SettingsError
from whirr.outputs import check_file, replacing
from whirr.settings import load_settings
from whirr.terminal import printable

if TYPE_CHECKING:
    from whirr.alert_reader import ReceivedAlert

_STATE_STYLES = {
    "opened": "bold red",
    "anomalous": "red",
    "updated": "yellow",
    "closed": "green",
    "changed": "cyan",
    "settled": "green",
    "reminded": "yellow",
}
_SEVERITY_STYLES = {"critical": "bold red", "warning": "yellow", "early": "cyan"}
_SHOWN_BANDS = 3
_SHOWN_MACHINES = 5


app = typer.Typer(invoke_without_command=True, add_completion=False)


@app.callback()
def alerts(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with each alert as it comes.")] = False,
    since: Annotated[
        str, typer.Option(help="From when: a duration such as 30s, 10m, 2h, 7d, or a time (RFC 3339).")
    ] = "1h",
    machine: MachinePattern = "*",
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Print the alerts on Kafka, each once, oldest first. Reads only: no consumer group, nothing is committed.

    Exit codes: 3 Kafka can't be reached (with --follow it is waited for), 5 it refuses this user.
    """
    if context.invoked_subcommand is not None:
        return
    from whirr.alert_reader import AlertReader, parse_since

    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    since_us = parse_since(since, time.time_ns() // 1000)
    reader = AlertReader(settings.bootstrap, settings.alerts_topic, since_us, machine, print_warning, settings)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_print_all(reader.follow() if follow else reader.read(), as_json))


@app.command()
def audio(
    alert_id: Annotated[str, typer.Argument(help="The alert's id, or its first digits (at least 6).")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: MACHINE_TIME.wav or .flac here.", show_default=False)
    ] = None,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Write the audio of the frame that caused an alert to a file, while Kafka still has it.

    Exit codes: 1 there is no such alert, or its frame is gone, 3 Kafka can't be reached, 5 it refuses this user.
    """
    from recordings import container
    from whirr.alert_audio import fetch

    if out is not None:
        check_file(out, "--out")
    found = asyncio.run(fetch(load_settings(kafka_bootstrap_servers=bootstrap), alert_id))
    alert = found.alert
    # Colons and such in file names trouble other systems than this.
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", f"{alert['machine_id']}_{alert['recorded_at']}")
    path = out or Path(f"{stem}.{container(found.value)}")
    try:
        with replacing(path) as file:
            file.write(found.value)
    except OSError as error:
        raise SettingsError(f"{str(path)!r} can't be written: {error.strerror}") from None
    if as_json:
        print_json({"file": str(path), "bytes": len(found.value), "alert": alert})
    else:
        stdout.print(alert_line(alert))
        print_line(f"{path}: {len(found.value)} bytes, {alert['frame']['duration_s']:g} s")


async def _print_all(received: AsyncGenerator[ReceivedAlert, None], as_json: bool) -> None:
    async with contextlib.aclosing(received):  # also when the reader at the other end of a pipe has gone
        async for item in received:
            if as_json:
                print_json_text(item.value.decode())
            else:
                stdout.print(alert_line(item.alert))


def alert_line(alert: dict[str, Any]) -> Text:
    """Return an alert, as the reader checked it, as one line: time, machine, change, how bad, bands, frame."""
    state, severity, fault = alert["state"], alert["severity"], alert["sensor_fault"]
    where = alert["machine_id"] + (f"/{alert['source']}" if alert["source"] else "")
    line = Text.assemble(
        (printable(alert["recorded_at"].replace("T", " ")[:23]), "dim"),
        "  ",
        (printable(where), "bold"),
        "  ",
        (printable(f"{'sensor ' + fault if fault else alert['kind']} {state}"), _STATE_STYLES.get(state, "")),
        "  ",
        (printable(severity), _SEVERITY_STYLES.get(severity, "")),
    )
    if alert["ratio"] is not None:
        line.append(f"  {alert['ratio']:.2f} times the threshold")
    line.append(_changed(alert))
    line.append(_drifted(alert))
    if alert["bands"]:
        line.append("  " + ", ".join(_band(band) for band in alert["bands"][:_SHOWN_BANDS]))
    if alert.get("streams") is not None:
        line.append(f"  {alert['streams']} streams")
        if named := [machine for machine in alert.get("machines") or () if isinstance(machine, str)]:
            line.append(", such as " + ", ".join(named[:_SHOWN_MACHINES]))
    if unfamiliar := [one for one in alert.get("unfamiliar") or () if isinstance(one, str)]:
        line.append(f"  the model was not trained for this {' and '.join(unfamiliar)}", "yellow")
    if alert.get("learning") is True:
        line.append("  the machine is learning", "blue")
    if alert.get("reason"):
        line.append(f"  ({alert['reason']})")
    if isinstance(incident := alert.get("incident_id"), str):
        line.append(f"  incident {printable(incident[:12])}", "dim")
    if alert["frame"]:
        line.append(f"  frame {printable(alert['frame']['frame_id'][:12])}", "dim")
    return line


def _changed(alert: dict[str, Any]) -> Text:
    """Return since when a machine has changed, and that it stays so although its alarm is over."""
    found = Text()
    if alert["state"] == "closed" and alert.get("level") == "early":
        found.append("  it stays changed", "cyan")
    if isinstance(change := alert.get("change"), dict) and isinstance(since := change.get("since"), str):
        found.append(f"  since {printable(since.replace('T', ' ')[:19])}")
    return found


def _drifted(alert: dict[str, Any]) -> Text:
    """Return what of a machine has drifted, how far, how fast, and since when."""
    found = Text()
    for one in alert.get("drift") or ():
        with contextlib.suppress(KeyError, TypeError, ValueError):  # of a version that words it in another way
            moved = f"{one['name']} {one['deviations']:+.1f} deviations, {one['per_day']:+.2f} a day"
            found.append(printable(f"  {moved}, since {one['since'][:10]}"))
    return found


def _band(band: dict[str, float]) -> str:
    return f"{band['from_hz']:.0f} to {band['to_hz']:.0f} Hz ({band['share']:.0%})"
