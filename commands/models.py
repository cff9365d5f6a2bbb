"""``whirr models``: the versions in the registry, and which of them is the champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from commands._options import AsJson
from commands._output import cell, print_json, print_line, print_warning, stdout, working
from commands._user import user
from schemas.champion_tags import FROM_TAG
from whirr.settings import load_settings

if TYPE_CHECKING:
    from trainer.registry import Promotion, Registered, Registry

app = typer.Typer(
    help="See registered models, and change which version workers use: `whirr train --register` makes versions.",
    no_args_is_help=True,
    add_completion=False,
)

_COLUMNS = ("model", "version", "aliases", "detector", "alert", "decision", "false alarms", "created", "run")

_Because = Annotated[str | None, typer.Option(help="Why; a tag says so.", show_default=False)]
_By = Annotated[str | None, typer.Option(help="Who; default: the user of this computer.", show_default=False)]
_Name = Annotated[str, typer.Argument(help="Name of the registered model.")]


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only versions of this registered model.")] = None,
    as_json: AsJson = False,
) -> None:
    """List versions, newest first, with their aliases."""
    with working("asking the registry", quiet=as_json):
        found = _registry().versions(name)
    if as_json:
        print_json({"versions": found})
    elif found:
        _print_versions(found)
    else:
        print_line("no model is registered; `whirr train --register` does that")


@app.command()
def show(
    name: _Name,
    version: Annotated[str, typer.Option(help="Number or alias of the version.")] = "champion",
    as_json: AsJson = False,
) -> None:
    """Show all that one version carries."""
    with working("asking the registry", quiet=as_json):
        found = _registry().version(name, version)
    if as_json:
        print_json(found)
        return
    for label, value in _lines(found):
        print_line(f"{label:22}  {value}")


@app.command()
def promote(
    name: _Name,
    version: Annotated[str, typer.Option(help="Number or alias of the version to promote.")] = "challenger",
    evaluate: Annotated[
        Path | None,
        typer.Option(help="Folder of labelled recordings (normal…, anomaly…) on which it must not be worse either."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote it even if it is worse; a tag says so.")] = False,
    because: _Because = None,
    by: _By = None,
    as_json: AsJson = False,
) -> None:
    """Make the challenger the champion, unless it is worse, for frames recorded from a minute later on.

    It is worse if more of its held-out normal frames exceed its alert threshold than of the champion's, beyond what
    counting explains, or if its AUC on labelled recordings is lower by more than 0.01; what was rolled back
    is refused too. Exit code 4 if refused.
    """
    judge = None
    if evaluate is not None:
        from backtest.evaluation.challenger_auc import recording_auc

        judge = recording_auc(evaluate)
    _tell(_registry().promote(name, version, judge, force, because=because, by=by or user()), as_json)


@app.command()
def rollback(
    name: _Name,
    to: Annotated[
        int | None, typer.Option(min=1, help="Number of the version to go back to.", show_default="the one before")
    ] = None,
    because: _Because = None,
    by: _By = None,
    as_json: AsJson = False,
) -> None:
    """Make the champion before the present one champion again, for frames recorded from a minute later on.

    The one that it was is no challenger any more, and is promoted again with --force only.
    """
    _tell(_registry().rollback(name, to, because=because, by=by or user()), as_json)


def _registry() -> Registry:
    from trainer.registry import Registry

    return Registry(load_settings())


def _tell(promotion: Promotion, as_json: bool) -> None:
    champion, before = promotion.champion, promotion.before
    if as_json:
        previous = None if before is None else before.version
        print_json({"champion": champion, "previous": previous, "overridden": promotion.overridden})
        return
    for reason in promotion.overridden:
        print_warning(reason)
    stead = "" if before is None else f" in place of version {before.version}"
    print_line(f"version {champion.version} of {champion.name} is the champion{stead}")
    print_line(
        f"  of frames recorded from {champion.tags[FROM_TAG]} on; those from before stay with what was", style="dim"
    )


def _print_versions(versions: list[Registered]) -> None:
    """Print a table where it fits without a word being broken, else each version by itself."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True)
    rows = [_shown(one) for one in versions]
    for row in rows:
        table.add_row(*map(cell, row))
    if stdout.print_table(table):
        return
    for row in rows:
        print_line((f"{row[0]} {row[1]}", "bold"), "" if row[2] == "-" else f"  {row[2]}")
        for label, value in list(zip(_COLUMNS, row, strict=True))[3:]:
            print_line((f"  {label:12}  ", "dim"), value)


def _shown(one: Registered) -> tuple[str, ...]:
    rate = "-" if one.false_alarms is None else f"{one.false_alarms.rate:.2%} of {one.false_alarms.normals}"
    return (
        one.name,
        str(one.version),
        ", ".join(one.aliases) or "-",
        one.detector or "-",
        _short(one.alert_threshold),
        _short(one.decision_threshold),
        rate,
        one.created_at[:19] + "Z",
        (one.run_id or "-")[:8],
    )


def _lines(one: Registered) -> list[tuple[str, Any]]:
    own = [
        ("model", one.name),
        ("version", one.version),
        ("aliases", ", ".join(one.aliases) or "-"),
        ("created", one.created_at),
        ("run", one.run_id or "-"),
        ("false alarms", one.false_alarms or "-"),
    ]
    return own + sorted(one.tags.items())


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
