"""Foreign text: what a terminal gets to see of it, and what it never gets."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys

import pytest
from rich.table import Table
from rich.text import Text

from commands._output import Terminal, print_error, print_json, print_line, print_warning
from whirr.terminal import PrintableFormatter, json_line, json_text, printable

HOSTILE = [
    ("\x1b[2Jpump", "\\x1b[2Jpump"),  # clear the screen
    ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ("\x1b]52;c;cm0gLXJm\x07", "\\x1b]52;c;cm0gLXJm\\x07"),  # write to the clipboard
    ("\x9b31m", "\\x9b31m"),  # the same as ESC [ to some terminals
    ("a\rb\nc\td", "a\\rb\\nc\\td"),
    ("a\u202egpj.wav", "a\\u202egpj.wav"),  # written from right to left
    ("\u2066a\u2069", "\\u2066a\\u2069"),
    ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
    ("a\u2028b", "a\\u2028b"),
    ("\udcff.wav", "\\xff.wav"),  # a file's name that is no UTF-8
    ("\ud800", "\\ud800"),
    ("\U000e0041", "\\U000e0041"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str):
    assert printable(text) == shown
    assert printable(text).isprintable()


@pytest.mark.parametrize("text", ["pump-7", "Lüfter 1", "ポンプ", "[red]x[/]", "5\u00a0kHz", "a\\b", "", "né", "насос"])
def test_what_is_only_text_stays(text: str):
    assert printable(text) == text


def test_lines_stay_where_they_are_wanted():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize("text", [text for text, _ in HOSTILE])
def test_json_means_the_same_and_holds_nothing_to_obey(text: str):
    line = json_line(json.dumps({text: [text]}, indent=2, ensure_ascii=False))
    assert json.loads(line) == {text: [text]}
    assert line.isprintable()


def test_json_of_a_name_that_is_no_utf8():
    assert json.loads(json_text({"file": "\udcff.wav", "all": ["a", "b\udcfe"]})) == {
        "file": "\\xff.wav",
        "all": ["a", "b\\xfe"],
    }


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_every_way_of_printing_only_shows(text: str, shown: str, capsys: pytest.CaptureFixture[str]):
    print_line("x ", (text, "bold"))
    print_json({"x": text.replace("\ud800", "")})
    print_error(text)
    print_warning(f"{text}: bad")
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"x {shown}"
    assert len(out.splitlines()) == 2
    assert all(line.isprintable() for line in (out + err).splitlines())


def test_a_console_shows_whatever_is_given_to_it(capsys: pytest.CaptureFixture[str]):
    table = Table("\x1b[2J", title="\x1b]0;t\x07")
    table.add_row("[red]a\x1b", Text(":smile:\x9b"))
    Terminal().print(table, "[bold]b\x1b", Text("c\x1b"))
    out = capsys.readouterr().out
    assert "[red]a" in out
    assert ":smile:" in out
    assert "[bold]b\\x1b" in out
    assert all(line.isprintable() for line in out.splitlines())


def test_a_further_line_of_an_error_does_not_look_like_a_message(capsys: pytest.CaptureFixture[str]):
    print_error("no such file 'a\nwarning: all is well'")
    assert capsys.readouterr().err == "error: no such file 'a\n  warning: all is well'\n"


def test_log_records_are_one_line_and_their_tracebacks_are_safe():
    record = logging.LogRecord("a", logging.WARNING, "x", 1, "%s", ("a\n\x1b[2J",), None)
    assert PrintableFormatter().format(record) == "a\\n\\x1b[2J"
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        record = logging.LogRecord("a", logging.WARNING, "x", 1, "b", (), sys.exc_info())
    said = PrintableFormatter().format(record)
    assert said.startswith("b\nTraceback")
    assert said.endswith("ValueError: \\x1b[2J")


PROGRAM = """
import logging, sys
from whirr.terminal import show_safely
show_safely()
logging.getLogger("x").warning("log \\x1b[2J")
print("out \\xfc")
class Odd:
    def __del__(self):
        raise OSError("\\x1b[2J")
Odd()
import asyncio
loop = asyncio.SelectorEventLoop.__new__(asyncio.SelectorEventLoop)  # as Ctrl-C leaves one
del loop
raise ValueError("\\x1b]0;t\\x07")
"""


def test_what_python_itself_prints_is_safe_and_fits_any_encoding():
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert done.stdout == "out \\xfc\n"
    assert re.match(
        r"log \\x1b\[2J\nException ignored (in:|while calling deallocator) <function Odd.__del__ at \w+>\n", done.stderr
    )
    assert "OSError: \\x1b[2J\n" in done.stderr
    assert "EventLoop" not in done.stderr
    assert done.stderr.endswith("ValueError: \\x1b]0;t\\x07\n")
