"""``whirr dlq``: the frames that could not be used, why, and sending them again after a fix."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from commands._options import AsJson, Bootstrap, MachinePattern, Since
from commands._output import cell, print_json, print_line, print_warning, stdout
from schemas.dead_letter import ERROR_CODES
from schemas.errors import SettingsError
from whirr.counts import counted
from whirr.outputs import check_folder, replacing
from whirr.settings import Settings, load_settings

if TYPE_CHECKING:
    from whirr.dead_letter_replay import Plan
    from whirr.dead_letters import StoredDeadLetter

app = typer.Typer(
    help="See the frames that could not be used, and send them again after a fix. Reading commits nothing.",
    no_args_is_help=True,
    add_completion=False,
)
_DETAIL_CHARS = 90
_NAME_CHARS = 40

_Reason = Annotated[
    str | None, typer.Option(help="Only this reason, such as not_audio or no_route.", show_default=False)
]
_Place = Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="Which, as `whirr dlq list` shows it.")]


@app.command("list")
def list_(
    machine: MachinePattern = "*",
    reason: _Reason = None,
    since: Since = None,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """List the dead letters, oldest first: which, when, whose, why."""
    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    letters = asyncio.run(_found(settings, machine, reason, since))
    if as_json:
        for letter in letters:
            print_json(letter.as_json())
    elif not letters:
        print_line(f"no dead letters on {settings.dead_letter_topic}{_narrowed(machine, reason, since)}")
    else:
        stdout.print(_table(letters))
        print_line(_tally(letters))


@app.command()
def show(
    place: _Place,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the original bytes here; .wav, .flac or .bin is added as fits.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its reason and headers; --out writes what the gateway sent as a file."""
    from whirr.dead_letters import read_letter

    if out is not None:
        check_folder(out.parent, "--out")
    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    letter = asyncio.run(read_letter(settings, place))
    written = None if out is None else _write(letter, out, force)
    if as_json:
        print_json({**letter.as_json(), "file": None if written is None else str(written)})
        return
    for label, text in _lines(letter):
        print_line((f"{label:10} ", "dim"), text)
    if written is not None:
        print_line(f"{counted(len(letter.value or b''), 'byte')} written to {written}")


@app.command()
def replay(
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PARTITION:OFFSET]...", help="Which; default: all that match.", show_default=False),
    ] = None,
    machine: MachinePattern = "*",
    reason: _Reason = None,
    since: Since = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    bootstrap: Bootstrap = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object; needs --yes or --dry-run.")] = False,
) -> None:
    """Send dead letters again as they first came: key, value, headers, partition and time. Each is sent once.

    A frame older than what its stream has since been scored with is `late`: scored and reported, it moves no alert.
    """
    from whirr.dead_letter_replay import plan

    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    if not (yes or dry_run) and (as_json or not sys.stdin.isatty()):
        raise SettingsError("nobody is there to ask whether to send; expected --yes or --dry-run")
    letters = asyncio.run(_found(settings, machine, reason, since, places))
    planned = asyncio.run(plan(settings, letters, again=again))
    if not as_json:
        _say(planned, len(letters))
    sent = 0
    if planned.send and not dry_run:
        if not yes and not typer.confirm(f"send {counted(len(planned.send), 'record')} again?"):
            raise typer.Exit(1)
        sent = _send(settings, planned.send, as_json)
    if as_json:
        counts = {"found": len(letters), "to_send": len(planned.send), "sent": sent}
        unfit = [{"place": one.place, "why": why} for one, why in planned.unfit]
        print_json({**counts, "replayed_before": len(planned.again), "unfit": unfit, "dry_run": dry_run})


async def _found(
    settings: Settings, machine: str, reason: str | None, since: str | None, places: Sequence[str] | None = None
) -> list[StoredDeadLetter]:
    from whirr.alert_reader import parse_since
    from whirr.dead_letters import read_letter, read_letters

    if reason is not None and reason not in ERROR_CODES:
        raise SettingsError(f"reason is {reason!r}; expected one of {', '.join(ERROR_CODES)}")
    if places:
        if machine != "*" or reason is not None or since is not None:
            raise SettingsError("dead letters are named one by one; expected no --machine, --reason or --since then")
        return [await read_letter(settings, place) for place in dict.fromkeys(places)]
    since_us = None if since is None else parse_since(since, time.time_ns() // 1000)
    found = [one async for one in read_letters(settings, since_us=since_us, machine=machine, reason=reason)]
    return sorted(found, key=lambda one: (one.stored_ms, one.partition, one.offset))


def _send(settings: Settings, letters: Sequence[StoredDeadLetter], as_json: bool) -> int:
    from whirr.dead_letter_replay import replay as send_again

    sent = 0

    async def send() -> None:
        nonlocal sent
        async for _ in send_again(settings, letters):
            sent += 1

    try:
        asyncio.run(send())
    finally:
        if sent < len(letters):
            print_warning(f"{sent} of {len(letters)} were sent and noted; the next replay goes on with the rest")
        elif not as_json:
            print_line(f"sent {counted(sent, 'record')}")
    return sent


def _say(planned: Plan, found: int) -> None:
    if not found:
        print_line("no dead letter matches")
        return
    if planned.send:
        print_line("to send: " + _tally(planned.send))
    if planned.again:
        print_line(f"{len(planned.again)} were replayed before and are left out; --again sends them too")
    for letter, why in planned.unfit:
        print_warning(f"{letter.place} can't be sent again: {why}")


def _tally(letters: Sequence[StoredDeadLetter]) -> str:
    reasons = Counter(letter.code for letter in letters)
    return f"{len(letters)} ({', '.join(f'{count} {code}' for code, count in reasons.most_common())})"


def _narrowed(machine: str, reason: str | None, since: str | None) -> str:
    given = (("machine", machine if machine != "*" else None), ("reason", reason), ("since", since))
    words = [f"{name} {value}" for name, value in given if value is not None]
    return f" with {', '.join(words)}" if words else ""


def _table(letters: Sequence[StoredDeadLetter]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    # What a gateway chooses is cut and folded, so that it leaves the other columns their room.
    for name in ("which", "stored (UTC)", "machine", "reason", "detail"):
        table.add_column(name, overflow="fold", no_wrap=name not in ("machine", "detail"))
    for letter in letters:
        stored = letter.as_json()["stored_at"].replace("T", " ")[:19]
        source = letter.header("ce_source")
        machine = _cut(letter.machine, _NAME_CHARS) + (f"/{_cut(source, _NAME_CHARS)}" if source else "")
        table.add_row(letter.place, stored, cell(machine), cell(letter.code), cell(_cut(letter.detail, _DETAIL_CHARS)))
    return table


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _lines(letter: StoredDeadLetter) -> list[tuple[str, str]]:
    about = letter.as_json()
    size = counted(about["value_bytes"], "byte") + (
        "" if letter.cut_from_bytes is None else f", cut from {letter.cut_from_bytes}"
    )
    where = f"{letter.topic}, partition {letter.original_partition}, {_offsets(letter)}"
    meaning = ERROR_CODES.get(letter.code, "a reason that this version does not know")
    lines = [
        ("reason", f"{letter.code}: {meaning}"),
        ("detail", letter.detail),
        ("machine", letter.machine or "(no key)"),
        ("stored", about["stored_at"]),
        ("came from", f"{where}, timestamp {about['original_time']}"),
        ("value", "none" if letter.value is None else f"{size}, {_container(letter.value)}"),
    ]
    return [*lines, *(("header", f"{name}: {text}") for name, text in about["headers"].items())]


def _offsets(letter: StoredDeadLetter) -> str:
    first, last = letter.first_offset, letter.original_offset
    return f"offset {last}" if first is None or first == last else f"offsets {first} to {last}"


def _container(value: bytes) -> str:
    from recordings.frames import container

    return container(value)


def _write(letter: StoredDeadLetter, out: Path, force: bool) -> Path:
    """Write the value; return the file, with the suffix that players go by."""
    if letter.value is None:
        raise SettingsError(f"dead letter {letter.place} has no value; there is nothing to write")
    suffix = f".{_container(letter.value)}"
    path = out if out.suffix == suffix else out.with_name(out.name + suffix)
    if path.exists() and not force:
        raise SettingsError(f"--out: {str(path)!r} exists; give another name, or --force")
    try:
        with replacing(path) as file:
            file.write(letter.value)
    except OSError as error:
        raise SettingsError(f"--out: {str(path)!r} can't be written ({error.strerror})") from None
    return path
