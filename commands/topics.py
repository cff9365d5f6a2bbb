"""``whirr topics``: makes the topics that Whirr needs, and says in what those that are there differ."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from commands._options import AsJson, Bootstrap
from commands._output import cell, print_json, print_line, print_warning, stdout
from whirr.settings import Settings, load_settings

if TYPE_CHECKING:
    from whirr.topics import Difference

_DIFFERENT = 1

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Create and check the topics that Whirr needs, as the settings (topic_…, …_retention_h) say.",
)


@app.command()
def create(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Make the topics that are missing; those that are there stay as they are, with a warning where they differ.

    Exit codes: 0 all are there, 3 Kafka can't be reached, 5 it refuses.
    """
    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    made, found = asyncio.run(_create(settings))
    for difference in found:
        print_warning(_line(difference))
    if as_json:
        print_json(
            {"topics": [{**row, "created": row["name"] in made} for row in _rows(settings)], "differences": found}
        )
        return
    stdout.print(_made_table(_rows(settings), made))


@app.command()
def check(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """Compare the topics with the settings: partitions, replicas, retention, sizes. Changes nothing.

    Exit codes: 0 all is as expected, 1 something differs or is missing, 3 Kafka can't be reached, 5 it refuses.
    """
    settings = load_settings(kafka_bootstrap_servers=bootstrap)
    found = asyncio.run(_check(settings))
    if as_json:
        print_json({"topics": list(_rows(settings)), "differences": found})
    elif found:
        stdout.print(_table(found))
    else:
        print_line(f"{len(_rows(settings))} topics at {settings.bootstrap} are as expected")
    if found:
        raise typer.Exit(_DIFFERENT)


async def _create(settings: Settings) -> tuple[list[str], list[Difference]]:
    from whirr.topics import admin_client, create_topics, differences

    async with admin_client(settings) as admin:
        return await create_topics(admin, settings), await differences(admin, settings)


async def _check(settings: Settings) -> list[Difference]:
    from whirr.topics import admin_client, differences

    async with admin_client(settings) as admin:
        return await differences(admin, settings)


def _rows(settings: Settings) -> list[dict[str, object]]:
    from whirr.topics import topic_specs

    return [
        {
            "name": spec.name,
            "partitions": spec.partitions or settings.topic_partitions,
            "replication": spec.replication,
            "config": spec.config,
        }
        for spec in topic_specs(settings)
    ]


def _made_table(rows: list[dict[str, object]], made: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("topic", "partitions", "replicas", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        name = str(row["name"])
        if name in made:
            table.add_row(name, str(row["partitions"]), str(row["replication"]), Text("created", style="green"))
        else:
            table.add_row(name, "", "", Text("was there", style="dim"))
    return table


def _line(difference: Difference) -> str:
    if difference.found is None:
        return f"topic {difference.topic} is missing"
    return f"topic {difference.topic}: {difference.what} is {difference.found}, expected {difference.expected}"


def _table(found: list[Difference]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("topic", "what", "expected", "found"):
        table.add_column(column, overflow="fold")
    for difference in found:
        shown = cell("missing" if difference.found is None else difference.found, "bold red")
        table.add_row(cell(difference.topic), cell(difference.what), cell(difference.expected), shown)
    return table
