"""``whirr machines`` on a screen: it moves with the store, outlives it, and ends with Ctrl-C."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from commands import _output, machines
from feature_repo.client import AudioFeatures, HealthFeatures, MachineFeatures
from schemas.times import format_rfc3339
from tests.conftest import unavailable
from tests.feature_stores import a_store, row
from tests.helpers import eventually
from tests.services import NotInstalled, Redis
from whirr.settings import Settings

DEADLINE_S = 60.0
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """``whirr machines`` on a pseudo-terminal of 100 columns and 12 lines."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 100, 0, 0))
        code = "from commands import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "machines", "--interval-s", "0.1"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "12"},
        )
        os.close(theirs)
        self._output = b""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._ours, 4096)
            except OSError:  # how Linux says that the other side has gone
                return
            if not read:
                return
            self._output += read

    @property
    def text(self) -> str:
        """All that was printed, without colours."""
        return _CODES.sub("", self._output.decode(errors="replace"))

    @property
    def last(self) -> str:
        """What was drawn last, without its folds."""
        return " ".join(_CODES.sub("", self._output.decode(errors="replace").rpartition("\x1b[H")[2]).split())

    def shows(self, *words: str) -> None:
        """Wait until the newest picture has these words."""
        eventually(lambda: all(word in self.last for word in words), DEADLINE_S, f"the screen shows {words}")


@contextmanager
def screen() -> Iterator[Screen]:
    found = Screen()
    try:
        yield found
    except BaseException:
        sys.stderr.write(found.text[-4000:])
        raise
    finally:
        found.process.kill()
        found.process.wait()


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_screen_shows_the_whole_hint(columns: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_output.stdout, "_width", columns)
    client = SimpleNamespace(shown="the feature store feature_store.yaml (sqlite)", machine_ids=list, machines=list)
    board = machines.Board(client, Settings(), "*", None)  # type: ignore[arg-type]
    board.look()
    lines = [line.plain for line in board.drawn(12).renderables]
    assert max(map(len, lines)) <= columns
    assert " ".join(lines).endswith("(`whirr settings` shows how)")


def test_a_machine_that_is_learning_is_shown_with_for_how_long_and_silence_hides_that():
    now = datetime.now(UTC)

    def heard(machine_id: str, state: str, ago_s: float, since: str) -> MachineFeatures:
        seen = now - timedelta(seconds=ago_s)
        health = HealthFeatures(None, None, None, 7, 0, state, f"whirr.{machine_id}/none", since)
        return MachineFeatures(machine_id, seen, seen, AudioFeatures(*[0.5] * 13), health)

    since = format_rfc3339(round((now - timedelta(hours=3)).timestamp() * 1e6))
    known = [heard("a", "learning", 1, since), heard("b", "normal", 1, ""), heard("c", "learning", 9_000, since)]
    client = SimpleNamespace(shown="a store", machine_ids=lambda: ["a", "b", "c"], machines=lambda _ids: known)
    board = machines.Board(client, Settings(), "*", 600.0)  # type: ignore[arg-type]
    board.look()
    console = Console(width=120, file=io.StringIO())
    console.print(board.drawn(None))
    rows = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert [row[:2] for row in rows[1:]] == [["c", "silent"], ["a", "learning"], ["b", "normal"]]
    assert rows[2][2:4] == ["3", "h"]
    assert rows[2][-1] == "whirr.a/none"
    assert [one["state"] for one in board.summary()["machines"]] == ["silent", "learning", "normal"]


@pytest.mark.slow
@pytest.mark.real_services
def test_the_screen_moves_with_the_store_outlives_it_and_ends_with_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server = Redis()
    try:
        server.start()
    except NotInstalled as error:
        unavailable(str(error))
    now_us = time.time_ns() // 1000
    try:
        with a_store("redis", tmp_path / "repo", monkeypatch, server.address) as store:
            monkeypatch.setenv("WHIRR_FEATURE_REPO", str(store.repo))
            monkeypatch.setenv("WHIRR_FEATURE_STORE_YAML", str(store.settings.feature_store_yaml))
            online = store.connect()
            with screen() as shown:
                shown.shows("no machine has written features yet")
                online.push([row("pump-1", 0, 1.5, start_us=now_us)])
                shown.shows("pump-1", "1.50")
                online.push([row("pump-1", 1, 2.5, start_us=now_us), row("fan-2", 1, 3.5, start_us=now_us)])
                shown.shows("pump-1", "2.50", "fan-2", "3.50")
                server.kill()
                shown.shows("fan-2", "can't be used", "trying again")  # what was seen last stays
                server.start()
                shown.shows("no machine has written features yet")  # Redis came back empty
                store.connect().push([row("pump-1", 2, 4.5, start_us=now_us)])
                shown.shows("pump-1", "4.50")
                assert "fan-2" not in shown.last
                shown.process.send_signal(signal.SIGINT)
                assert shown.process.wait(20) == 0
            assert "Traceback" not in shown.text
    finally:
        server.stop()
