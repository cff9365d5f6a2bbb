"""Pages by templates: every text in them is escaped and printable, whoever wrote it, and JSON in them is no markup."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from schemas.errors import SettingsError
from whirr.outputs import replacing
from whirr.terminal import json_text, printable


class Tile(NamedTuple):
    """A figure at the top of a page, with what to know of it below."""

    name: str
    value: str
    below: str = ""


class Cell(NamedTuple):
    """A cell of a table with a smaller text below, and its class in the style sheet."""

    text: str
    below: str = ""
    kind: str = ""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("backtest.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
    # Jinja2 writes out what begins and ends elements; what a terminal or a browser would obey, this does.
    environment.policies["json.dumps_function"] = json_text
    environment.policies["json.dumps_kwargs"] = {}
    return environment


def render(template: str, **shown: Any) -> str:
    """Return a page that fetches nothing.

    Args:
        template: Its file in ``templates``.
        shown: What it shows.
    """
    return _environment().get_template(template).render(shown) + "\n"


def write_page(path: Path, text: str) -> None:
    """Write a page that appears complete or not at all.

    Raises:
        SettingsError: It can't be written.
    """
    try:
        with replacing(path, text=True) as file:
            file.write(text)
    except OSError as error:
        raise SettingsError(f"report {str(path)!r} can't be written: {error.strerror}") from None
