"""``whirr verdict``: says what an incident was."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from commands._options import AsJson, Bootstrap
from commands._output import print_json, print_line
from commands._user import user
from schemas.errors import SettingsError
from schemas.times import MICROSECONDS, format_rfc3339, parse_rfc3339
from schemas.verdict import VERDICT_DELAY_S
from whirr.settings import load_settings

_EFFECTS = {
    ("machine", "seen"): "no reminders",
    ("machine", "confirmed"): "no reminders",
    ("machine", "false_alarm"): "the incident ends, and frames like its own count as normal",
    ("machine", "repaired"): "what is open on the machine ends, and it is learnt anew",
    ("machine", "new_normal"): "what is open on the machine ends, and it is learnt anew",
    ("machine", "withdrawn"): "as if nobody had said anything",
    ("drift", "seen"): "no reminders",
    ("drift", "confirmed"): "no reminders; what was recorded since it began is never learnt",
    ("drift", "false_alarm"): "it is no drift: it is told again only if it goes on",
    ("drift", "repaired"): "what is open on the machine ends, and it is learnt anew",
    ("drift", "new_normal"): "what is open on the machine ends, and it is learnt anew",
    ("sensor", "false_alarm"): "the incident ends, and that fault of this sensor opens none",
    ("sensor", "withdrawn"): "as if nobody had said anything",
}


def verdict(
    incident: Annotated[str, typer.Argument(help="The incident's id, or its first digits (at least 6).")],
    word: Annotated[
        str | None,
        typer.Argument(
            metavar="VERDICT", help="seen, false_alarm, confirmed, repaired or new_normal.", show_default=False
        ),
    ] = None,
    note: Annotated[str | None, typer.Option(help="In your own words.", show_default=False)] = None,
    by: Annotated[
        str | None, typer.Option(help="Who says so; default: the user of this computer.", show_default=False)
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(
            help="What it was, of confirmed and repaired; faults of one name are evaluated together.",
            show_default=False,
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="From when, of repaired (default: now) and new_normal (default: the incident's beginning): a duration "
            "such as 2h, 3d, or a time (RFC 3339).",
            show_default=False,
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the verdict back; it stays in the log.")] = False,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Say what an incident was; a later verdict replaces an earlier one, and nothing is ever deleted from the log.

    Exit codes: 1 there is no such incident, 2 the verdict makes no sense, 3 Kafka can't be reached (it may not
    count: give it again), 5 it refuses this user.
    """
    from whirr import verdicts
    from whirr.alert_reader import parse_since

    if undo and (word is not None or fault is not None or since is not None):
        raise SettingsError("--undo takes a verdict back; expected no verdict, --fault or --since with it")
    if not undo and word is None:
        raise SettingsError(f"no verdict is given; expected one of {', '.join(verdicts.WORDS)}, or --undo")
    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    who = user() if by is None else by
    if word is None:
        said = asyncio.run(verdicts.undo(settings, incident, by=who, note=note))
    else:
        now_us = time.time_ns() // 1000
        since_us = None if since is None else parse_since(since, now_us)
        given = verdicts.Word(verdict=word, by=who, note=note, fault=fault, since_us=since_us)
        said = asyncio.run(verdicts.give(settings, incident, given, now_us=now_us))
    if as_json:
        print_json(said)
        return
    where = said.machine_id + (f"/{said.source}" if said.source else "")
    more = "".join(f", {text}" for text in (said.fault, said.since and f"since {said.since[:19]}") if text)
    print_line(f"incident {said.incident_id[:12]} of {where} is {said.verdict}{more} (by {said.by})")
    effect = _EFFECTS.get((said.kind, said.verdict))
    if effect is not None:
        counts_us = parse_rfc3339(said.time) + round(VERDICT_DELAY_S * MICROSECONDS)
        print_line(f"for what is recorded from {format_rfc3339(counts_us)[11:19]} (UTC) on: {effect}")
