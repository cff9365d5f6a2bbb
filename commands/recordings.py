"""``whirr recordings``: what an archive holds, and what of it is pinned."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from commands._options import AsJson, MachinePattern, Since
from commands._output import cell, print_json, print_line, print_warning, stdout
from schemas.errors import SettingsError
from schemas.times import format_rfc3339
from whirr.counts import counted
from whirr.outputs import check_folder
from whirr.settings import load_settings

if TYPE_CHECKING:
    from archive import Archive, Pin

app = typer.Typer(
    help="List, fetch, pin and prune the recordings that `whirr record --follow` keeps.",
    no_args_is_help=True,
    add_completion=False,
)
_GB = 1_000_000_000
_MOST_STATES = 3

_Url = Annotated[
    str | None,
    typer.Option("--archive", help="The archive: a folder or a URL; default: the setting recordings_url."),
]
_Until = Annotated[str | None, typer.Option(help="Until when; default: now.", show_default=False)]
_Machine = Annotated[str, typer.Argument(metavar="MACHINE", help="Whose.")]


@app.command("list")
def list_(machine: MachinePattern = "*", url: _Url = None, as_json: AsJson = False) -> None:
    """List what there is of each machine: files, hours, bytes, oldest and newest, operating states, pins."""
    kept = _archive(url)
    found = kept.summary(lambda name: fnmatchcase(name, machine))
    if as_json:
        for name, told in found.items():
            print_json({"machine": name, **_json(told)})
    elif not found:
        print_line(f"no recordings in {kept.url}" + ("" if machine == "*" else f" of machine {machine!r}"))
    else:
        if not stdout.print_table(_table(found)):
            stdout.print(_table(found, states=False))  # how many there are: their names would be folded into a strip
        for one in (one for told in found.values() for one in told["pins"]):
            print_line((f"{one.pin_id}  ", "dim"), f"pinned: {_pin_words(one)}")
        print_line(
            f"{counted(sum(told['files'] for told in found.values()), 'file')}, "
            f"{sum(told['bytes'] for told in found.values()) / _GB:.3g} GB of {counted(len(found), 'machine')}"
        )


@app.command()
def fetch(
    machine: _Machine,
    out: Annotated[Path, typer.Option(help="Folder to put them in, with a recordings.csv beside them.")],
    since: Since = None,
    until: _Until = None,
    url: _Url = None,
    as_json: AsJson = False,
) -> None:
    """Put a machine's recordings of a time into a folder that `whirr train`, `evaluate` and `replay` read."""
    check_folder(out, "--out")
    kept = _archive(url)
    fetched = kept.fetch(kept.entries(machine, *_span(since, until)), out)
    if as_json:
        print_json({"files": len(fetched.paths), "gone": len(fetched.gone), "out": str(out)})
        return
    print_line(f"{counted(len(fetched.paths), 'file')} in {out}")
    if fetched.gone:
        print_warning(f"{counted(len(fetched.gone), 'file was', 'files were')} removed from the archive meanwhile")
    if not fetched.paths:
        print_warning(f"the archive has no recording of machine {machine!r} in that time")


@app.command()
def pin(
    machine: _Machine,
    why: Annotated[str, typer.Option(help="What for, such as baseline.")],
    since: Since = None,
    until: Annotated[
        str | None, typer.Option(help="Until when; default: whatever will come, too.", show_default=False)
    ] = None,
    url: _Url = None,
    as_json: AsJson = False,
) -> None:
    """Keep a machine's recordings of a time, whatever the quotas say, until they are unpinned."""
    from_us, until_us = _span(since, until)
    pinned = _archive(url).pin(machine, from_us or 0, until_us, why)
    if as_json:
        print_json(_pin_json(pinned))
    else:
        print_line(f"{pinned.pin_id}: {_pin_words(pinned)}")


@app.command()
def unpin(
    pin_id: Annotated[str, typer.Argument(metavar="PIN", help="Which, as `whirr recordings list` shows it.")],
    url: _Url = None,
) -> None:
    """Take a pin back; its recordings may then go as others do."""
    kept = _archive(url)
    if pin_id not in {one.pin_id for one in kept.pins()}:
        raise SettingsError(f"the archive {kept.url!r} has no pin {pin_id!r}; `whirr recordings list` shows them")
    kept.unpin(pin_id)
    print_line(f"{pin_id} is taken back")


@app.command()
def prune(url: _Url = None, as_json: AsJson = False) -> None:
    """Thin the archive and keep it to its quotas now; a recorder does so by itself, every ten minutes."""
    done = _archive(url).prune(time.time_ns() // 1000)
    if as_json:
        print_json({name: getattr(done, name) for name in done.__slots__})
        return
    print_line(
        f"removed: {counted(done.aged, 'recording')} too old, {counted(done.thinned, 'repeat')}, {done.over} above a "
        f"quota; {done.bytes / 1e6:.1f} MB"
    )
    for sentence in done.kept_over:
        print_warning(f"{sentence}; unpin something, or raise the quota")


@app.command()
def mend(url: _Url = None, as_json: AsJson = False) -> None:
    """Bring files and index together, after files were removed or put there by hand. Stop the recorders first."""
    done = _archive(url).mend()
    if as_json:
        print_json({name: getattr(done, name) for name in done.__slots__})
    else:
        print_line(
            f"{counted(done.listed, 'file is', 'files are')} in the index again, "
            f"{counted(done.dropped, 'entry without a file is', 'entries without a file are')} out of it, "
            f"{counted(done.unusable, 'file that holds no frame is', 'files that hold no frame are')} removed"
        )


def _archive(url: str | None) -> Archive:
    from archive.archive import configured_archive

    return configured_archive(load_settings(), url)


def _span(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    from whirr.alert_reader import parse_since

    now_us = time.time_ns() // 1000
    return (
        None if since is None else parse_since(since, now_us),
        None if until is None else parse_since(until, now_us),
    )


def _json(told: dict[str, Any]) -> dict[str, Any]:
    moments = {name: told[f"{name}_us"] for name in ("oldest", "newest")}
    times = {name: None if time_us is None else format_rfc3339(time_us) for name, time_us in moments.items()}
    rest = {name: value for name, value in told.items() if name not in ("pins", "oldest_us", "newest_us")}
    return {**rest, **times, "pins": [_pin_json(one) for one in told["pins"]]}


def _pin_json(one: Pin) -> dict[str, Any]:
    return {
        "pin_id": one.pin_id,
        "machine": one.machine,
        "from": format_rfc3339(one.from_us),
        "until": None if one.until_us is None else format_rfc3339(one.until_us),
        "why": one.why,
    }


def _pin_words(one: Pin) -> str:
    until = "whatever comes" if one.until_us is None else _time(one.until_us)
    return f"{one.machine} from {_time(one.from_us)} until {until}, {one.why}"


def _time(time_us: int) -> str:
    return format_rfc3339(time_us)[:19].replace("T", " ")


def _table(found: dict[str, dict[str, Any]], *, states: bool = True) -> Table:
    """Return a line for each machine; with the commonest operating states, or how many there are."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("machine", "files", "hours", "GB", "oldest (UTC)", "newest (UTC)", "states"):
        right = name in ("files", "hours", "GB")
        table.add_column(name, overflow="fold", justify="right" if right else "left", no_wrap=name != "machine")
    for machine, told in found.items():
        common = [f"{state} ({count})" for state, count in list(told["states"].items())[:_MOST_STATES]]
        more = [f"{len(told['states']) - _MOST_STATES} more"] if len(told["states"]) > _MOST_STATES else []
        table.add_row(
            cell(machine),
            str(told["files"]),
            f"{told['seconds'] / 3600:.2f}",
            f"{told['bytes'] / _GB:.3g}",
            "" if told["oldest_us"] is None else _time(told["oldest_us"]),
            "" if told["newest_us"] is None else _time(told["newest_us"]),
            cell(", ".join([*common, *more])) if states else str(len(told["states"])),
        )
    return table
