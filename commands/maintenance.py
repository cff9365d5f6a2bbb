"""``whirr maintenance``: lists maintenance windows, and what they kept from being reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands._options import AsJson, Bootstrap, MachinePattern
from commands._output import print_json, print_line, print_warning, working
from schemas.errors import SettingsError
from schemas.times import format_rfc3339
from whirr.counts import counted
from whirr.machine_patterns import covers
from whirr.maintenance import Maintenance, MaintenanceWindow, Occurrence
from whirr.settings import Settings, load_settings

if TYPE_CHECKING:
    from whirr.maintenance_log import Suppressed

_SHOWN_MACHINES = 5


def maintenance(
    log: Annotated[
        bool, typer.Option("--log", help="What they kept from being reported, in place of the windows themselves.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            help="With --log: from when, a duration such as 7d or a time (RFC 3339); default: all that Kafka has.",
            show_default=False,
        ),
    ] = None,
    coming: Annotated[int, typer.Option("--next", min=1, max=100, help="How many occurrences of each are shown.")] = 3,
    machines: Annotated[
        bool, typer.Option("--machines", help="Name the machines in the feature store that each window matches.")
    ] = False,
    machine: MachinePattern = "*",
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """List the maintenance windows of the settings: which is on, and when they are on next.

    With --log, by window and sensor: frames suppressed, how many of them were above the alert threshold, and the
    highest ratio. It is found in the scores topic: it reaches back as far as that is kept, and there is none where
    workers publish no scores.
    Exit codes: 2 a window can't be used, 3 with --log: Kafka can't be reached, 5 it refuses this user.
    """
    from whirr.alert_reader import parse_since

    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    now_us = time.time_ns() // 1000
    if log:
        from whirr.maintenance_log import suppressed

        since_us = None if since is None else parse_since(since, now_us)
        if not settings.publish_scores:
            print_warning("publish_scores is off: what these settings' workers suppress is in their own logs alone")
        _show_log(asyncio.run(suppressed(settings, since_us, machine)), as_json)
        return
    if since is not None:
        raise SettingsError("--since is of the log; expected --log with it")
    windows = [one for one in settings.maintenance if machine == "*" or covers(one.match, machine)]
    known = _known_machines(settings, quiet=as_json) if machines else None
    rows = [_row(found, now_us) for found in Maintenance(windows).coming(now_us, coming)]
    for window, row in zip(windows, rows, strict=True):
        if known is not None:
            row["machines"] = [one for one in known if fnmatchcase(one, window.match)]
    if as_json:
        for window, row in zip(windows, rows, strict=True):
            print_json({**window.model_dump(mode="json"), **row})
    elif windows:
        _show(windows, rows)
    else:
        print_line("no [[maintenance]] windows" + (" that fit" if settings.maintenance else ""))


def _row(found: Sequence[Occurrence], now_us: int) -> dict[str, Any]:
    """Return what is to be said of a window now, fit for JSON."""
    spans = [{"begin": format_rfc3339(one.begin_us), "end": format_rfc3339(one.end_us)} for one in found]
    return {"on": bool(found) and found[0].begin_us <= now_us, "occurrences": spans}


def _known_machines(settings: Settings, *, quiet: bool) -> list[str]:
    from feature_repo.client import FeatureClient

    with working("opening the feature store", quiet=quiet), FeatureClient(settings) as client:
        return client.machine_ids()


def _show(windows: Sequence[MaintenanceWindow], rows: Sequence[dict[str, Any]]) -> None:
    for window, row in zip(windows, rows, strict=True):
        spans = list(row["occurrences"])
        now = f"on until {_time(spans.pop(0)['end'])} UTC" if row["on"] else "off"
        print_line((window.match, "bold"), "  ", (now, "yellow" if row["on"] else "dim"))
        following = f"next {', '.join(_time(span['begin']) for span in spans)} UTC" if spans else "not again"
        print_line("    ", "; ".join(text for text in (window.duration, window.rule, following, window.note) if text))
        if "machines" in row:
            print_line("    ", _named(row["machines"]))


def _named(machines: Sequence[str]) -> str:
    more = f" and {len(machines) - _SHOWN_MACHINES} more" if len(machines) > _SHOWN_MACHINES else ""
    return f"machines {', '.join(machines[:_SHOWN_MACHINES])}{more}" if machines else "no machine that is known"


def _show_log(found: Sequence[Suppressed], as_json: bool) -> None:
    for one in found:
        if as_json:
            print_json(one)
            continue
        window = f"{_time(one.begin)} to {_time(one.end)}" if one.begin and one.end else "in no window that is set now"
        where = one.machine_id + (f"/{one.source}" if one.source else "")
        faults = "".join(f", {count} {fault}" for fault, count in one.sensor_faults.items())
        print_line(
            (window, "dim"),
            "  ",
            (where, "bold"),
            f"  {counted(one.frames, 'frame')}, ",
            (f"{one.above} above the threshold", "red" if one.above else ""),
            f", highest {one.highest_ratio:.2f} times it{faults}",
            f"  {one.note}" if one.note else "",
        )
    if not found and not as_json:
        print_line("nothing was recorded in a maintenance window")


def _time(text: str) -> str:
    return text.replace("T", " ")[:16]
