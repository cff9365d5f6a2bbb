"""``whirr settings``: every setting, its value, and where that came from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from rich.table import Table
from rich.text import Text

from commands._options import AsJson
from commands._output import cell, print_json, print_line, print_warning, stdout
from whirr.options import declared
from whirr.settings import Route, Settings, load_settings, read_settings_file, settings_file, unknown_variables
from whirr.terminal import printable

MASK: Final = "********"
_PREFIX: Final = "WHIRR_"
# A password may hold what an address should not (: / @ ?), so it ends at the last @ that can end it. The query is what
# begins with a name and =.
_PASSWORD = re.compile(r"(?<=://)(?P<user>[^:]*):(?:(?:(?!\?[\w.%-]+=).)*@|.*@)", re.DOTALL)
_QUERY_SECRET = re.compile(r"(?P<name>[?&;][^=&;]*(?:password|token|secret|key)[^=&;]*=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is shown: its value without secrets, where it came from, and what it may be."""

    name: str
    value: Any
    source: str
    description: str
    range: str
    environment: str

    @property
    def meaning(self) -> str:
        """What it is and may be."""
        return f"{self.description} ({self.range})" if self.range else self.description


def settings(
    as_json: AsJson = False,
) -> None:
    """Show every setting and where it came from: environment, settings file or default. Secrets are masked."""
    rows = list(show(load_settings(), os.environ, settings_file()))
    secrets = _secrets_in_file(rows)
    warnings = [*unknown_variables(os.environ), *secrets]  # the former are told at the start of every command
    for warning in secrets:
        print_warning(warning)
    if as_json:
        print_json({"settings": rows, "warnings": warnings})
    else:
        _print_rows(rows)


def show(current: Settings, environment: Mapping[str, str], file: Path) -> Iterator[Setting]:
    """Yield every setting of ``current``, given what it was made from."""
    given = {name.upper() for name in environment}
    in_file = read_settings_file()
    for option in declared(Settings):
        name, variable = option.name, _PREFIX + option.name.upper()
        source = f"env {variable}" if variable in given else str(file) if name in in_file else "default"
        yield Setting(name, _plain(getattr(current, name)), source, option.description, option.range, variable)


def _secrets_in_file(rows: list[Setting]) -> list[str]:
    return [
        f"{row.name} is a secret and stands in {row.source}; give it as {row.environment} instead"
        for row in rows
        if row.value == MASK and not row.source.startswith("env ")
    ]


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it and anyone may see it."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, BaseModel):
        return {name: _plain(part) for name, part in value.model_dump(mode="json").items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return _without_secrets(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _without_secrets(text: str) -> str:
    """Return an address with its password masked, and what its query calls a password, token, secret or key."""
    return _QUERY_SECRET.sub(rf"\g<name>{MASK}", _PASSWORD.sub(rf"\g<user>:{MASK}@", text, count=1))


def _print_rows(rows: list[Setting]) -> None:
    """Print a table where it fits, else each setting by itself with its meaning below."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "value", "from", "meaning"):
        table.add_column(column, no_wrap=True)
    for row in rows:
        shown = Text(printable(_readable(row.value), keep="\n"))
        table.add_row(row.name, shown, cell(row.source, _style(row)), Text(row.meaning, "dim"))
    if stdout.print_table(table):
        return
    for row in rows:
        value = printable(_readable(row.value), keep="\n").replace("\n", "\n    ")
        stdout.print(Text.assemble((row.name, "bold"), f"  {value}  ", (printable(row.source), _style(row))))
        for line in wrap(row.meaning, max(stdout.width - 4, 20)):
            print_line((f"    {line}", "dim"))


def _style(row: Setting) -> str:
    return "dim" if row.source == "default" else "green"


def _readable(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "\n".join((_route if "model" in part else _window)(part) for part in value) or "-"
    return str(value)


def _route(route: dict[str, Any]) -> str:
    """Return a route on one line: which machines, which model, and what differs from the defaults."""
    rule = {name: value for name, value in route.items() if name not in ("match", "model")}
    default = Route(model=route["model"]).model_dump(mode="json")
    differs = [f"{name} {value}" for name, value in rule.items() if value != default[name]]
    return ", ".join([f"{route['match']} -> {route['model']}", *differs])


def _window(window: dict[str, Any]) -> str:
    """Return a maintenance window on one line."""
    zone = f" {window['timezone']}" if window["timezone"] else ""
    more = [text for text in (window["rule"], window["note"]) if text]
    return ", ".join([f"{window['match']} from {window['start']}{zone} for {window['duration']}", *more])
