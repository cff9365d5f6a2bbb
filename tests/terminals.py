"""``whirr`` as a person runs it: on a terminal, with Ctrl-C; and with a reader that has gone."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

CTRL_C = b"\x03"
DEADLINE_S = 240.0  # importing Feast takes seconds, and many on a busy machine
_AGAIN_S = 20.0
_WHIRR = (sys.executable, "-m", "commands")
# What rich draws with: colours, moves of the cursor, lines that are cleared, the other screen, a hidden cursor.
_DRAWING = re.compile(rb"\x1b\[[0-9;]*[mAKGH]|\x1b\[\?(?:25|1049)[hl]|\x1b\[2J(?=\x1b\[H)")


class Ran(NamedTuple):
    """How a run on a terminal ended: its exit code, and all that the terminal got."""

    code: int
    output: bytes

    @property
    def text(self) -> str:
        """What a person reads."""
        return _DRAWING.sub(b"", self.output).replace(b"\r\n", b"\n").decode(errors="replace")

    @property
    def obeyed(self) -> bytes:
        """What the terminal would obey and no drawing needs."""
        rest = _DRAWING.sub(b"", self.output)
        return b"".join(re.findall(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]", rest))


def on_a_terminal(
    args: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    columns: int = 80,
    interrupt_at: str | None = None,
    keys: bytes = b"",
    deadline_s: float = DEADLINE_S,
) -> Ran:
    """Run ``whirr`` on a pseudo-terminal of its own until it ends.

    Args:
        args: Of the command line.
        env: Over the environment.
        cwd: Where.
        columns: How wide the terminal is.
        interrupt_at: Type Ctrl-C once this was printed.
        keys: Typed at the beginning.
        deadline_s: The test fails if it has not ended by then.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [*_WHIRR, *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**_without_size(), "TERM": "xterm-256color", **env},
        start_new_session=True,
        # So that Ctrl-C reaches it, as from a keyboard.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    os.close(theirs)
    output, end = b"", time.monotonic() + deadline_s
    again_at = float("inf")  # a key that is typed while the line editor starts is lost: a person types it again
    os.write(ours, keys)
    try:
        while True:
            if time.monotonic() > end:
                pytest.fail(f"whirr {' '.join(args)} has not ended within {deadline_s:g} s: {output[-2000:]!r}")
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    output += os.read(ours, 65536)
                except OSError:  # how Linux says that the other side has gone
                    break
            elif process.poll() is not None:
                break
            if interrupt_at is not None and interrupt_at.encode() in output:
                os.write(ours, CTRL_C)
                interrupt_at, again_at = None, time.monotonic() + _AGAIN_S
            elif time.monotonic() > again_at:
                os.write(ours, CTRL_C)
                again_at += _AGAIN_S
        return Ran(process.wait(10), output)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def with_a_reader_that_has_gone(
    args: Sequence[str], *, env: Mapping[str, str], cwd: Path, deadline_s: float = DEADLINE_S
) -> tuple[int, str]:
    """Run ``whirr`` into a pipe that nobody reads any more, as behind ``head``; return exit code and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*_WHIRR, *args],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**_without_size(), **env},
            timeout=deadline_s,
            check=False,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr.decode(errors="replace")


def _without_size() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
