"""What every command prints with: people's text to consoles, machines' text as one line of JSON.

Whatever is printed here, a terminal shows and never obeys (:mod:`whirr.terminal`). Square brackets and colons are
text.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from schemas.errors import WhirrError
from whirr.terminal import json_line, json_text, printable

if TYPE_CHECKING:
    from rich.progress import Progress

READER_GONE: Final = 141  # as a shell says it of a program that SIGPIPE ended: 128 and the signal's number
_WIDE: Final = 1000  # columns
_LINES: Final = "\n\t"  # what a renderable may make of its own


class WithProgress:
    """Takes its progress bar off the screen, however what it shows has ended; a context manager."""

    _progress: Progress

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar off the screen."""
        self._progress.stop()


class Terminal(Console):
    """A console on which everything is shown and nothing obeyed, whatever is printed and wherever it came from.

    Line breaks in a text stay; a foreign text that must be one line goes through :func:`printable` first, as
    :func:`print_line` does.
    """

    def __init__(self, *, stderr: bool = False, markup: bool = False) -> None:
        # soft_wrap: a redirected line must not be broken at 80 columns.
        super().__init__(stderr=stderr, soft_wrap=True, highlight=False, markup=markup, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield a renderable's segments, their texts made printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, keep=_LINES))

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, or end with a message if nobody takes it.

        Raises:
            SystemExit: The reader at the other end of a pipe has gone.
            WhirrError: It can't be written, for want of space for instance.
        """
        with _written():
            super().print(*objects, **options)

    def print_table(self, table: Table) -> bool:
        """Print a table if it fits without a word being broken or cut; return whether it did.

        What goes to a file or another program is as wide as it needs: nobody wraps it.
        """
        wide = self.options.update(width=_WIDE)
        fits = not self.is_terminal or Measurement.get(self, wide, table).maximum <= self.width
        if fits:
            before, self._width = self._width, None if self.is_terminal else _WIDE
            self.print(table)
            self._width = before
        return fits

    def on_broken_pipe(self) -> NoReturn:
        """End as a program does that writes to a pipe with nobody at its other end."""
        self.quiet = True
        reader_gone()


stdout = Terminal()
stderr = Terminal(stderr=True)
marked = Terminal(markup=True)  # for texts of our own with markup in them


def reader_gone() -> NoReturn:
    """End this program silently: whoever read its output has gone, as ``head`` does."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        # What is still buffered has to go somewhere when Python ends.
        if (number := _number(stream)) is not None and _is_closed_pipe(stream):
            os.dup2(nowhere, number)
    os.close(nowhere)
    raise SystemExit(READER_GONE)


def _number(stream: IO[str] | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None


def _is_closed_pipe(stream: IO[str]) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        reader_gone()
    except OSError as error:
        raise WhirrError(f"the output can't be written ({error.strerror or error})") from None


def print_json(value: Any) -> None:
    """Print ``value`` (anything that orjson takes: dataclasses, times, numpy arrays too) as one line on stdout.

    Flushed at once, so that a program at the other end of a pipe need not wait.
    """
    print_json_text(json_text(value))


def print_json_text(text: str) -> None:
    """Print a JSON text as one line on stdout, flushed at once."""
    if sys.stdout is None:
        return
    with _written():
        sys.stdout.write(json_line(text) + "\n")
        sys.stdout.flush()


@contextmanager
def working(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Say on stderr what takes a while: a moving sign on a terminal, else one line at once.

    Args:
        what: Such as ``opening the feature store``.
        quiet: Say nothing where nobody looks: a program that asked for JSON wants nothing else.
    """
    if stderr.is_terminal:
        with stderr.status(Text(f"{printable(what)} …")):
            yield
        return
    if not quiet:
        stderr.print(Text(f"{printable(what)} …"))
    yield


def print_line(*parts: object | tuple[object, str], style: str = "") -> None:
    """Print one line on stdout: foreign line breaks in it are shown as such.

    Args:
        parts: Texts, or pairs of text and style, one after the other.
        style: Of the whole line.
    """
    stdout.print(Text.assemble(*_printable(parts), style=style))


def cell(text: object, style: str = "") -> Text:
    """Return a foreign text as one cell of a table: on one line, and as wide as it is shown."""
    return Text(printable(text), style)


def print_error(message: object) -> None:
    """Print ``error: message`` on stderr; square brackets in it are text."""
    _labelled("error", "bold red", message)


def print_warning(message: object) -> None:
    """Print ``warning: message`` on stderr; square brackets in it are text."""
    _labelled("warning", "bold yellow", message)


def print_notes(notes: Iterable[str]) -> None:
    """Print what is to be said about recordings as they were read, a line each, on stderr."""
    for note in notes:
        _labelled("note", "bold cyan", note)


def _labelled(label: str, style: str, message: object) -> None:
    # Its further lines are indented: a foreign text must not pass for a message of its own.
    shown = printable(message, keep="\n").replace("\n", "\n  ")
    stderr.print(Text.assemble((f"{label}: ", style), shown))


def _printable(parts: Iterable[object | tuple[object, str]]) -> Iterator[str | tuple[str, str]]:
    for part in parts:
        yield (printable(part[0]), part[1]) if isinstance(part, tuple) else printable(part)
