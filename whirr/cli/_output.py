"""What every command prints with: people's text to consoles, machines' text as one line of JSON."""

from __future__ import annotations

import sys
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text

# soft_wrap: a redirected line must not be broken at 80 columns.
stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """Print ``value`` (anything that orjson takes: dataclasses, times, numpy arrays too) as one line on stdout.

    Flushed at once, so that a program at the other end of a pipe need not wait.
    """
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=str).decode() + "\n")
    sys.stdout.flush()


def print_error(message: object) -> None:
    """Print ``error: message`` on stderr; square brackets in it are text."""
    _labelled("error", "bold red", message)


def print_warning(message: object) -> None:
    """Print ``warning: message`` on stderr; square brackets in it are text."""
    _labelled("warning", "bold yellow", message)


def _labelled(label: str, style: str, message: object) -> None:
    stderr.print(Text.assemble((f"{label}: ", style), str(message)))
