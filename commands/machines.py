"""``whirr machines``: every machine in the feature store, how it does, and when it was last heard."""

from __future__ import annotations

import contextlib
import textwrap
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from commands._options import AsJson, MachinePattern, StoreYaml
from commands._output import cell, print_json, print_warning, stdout, working
from schemas.errors import ServiceUnavailable
from schemas.times import MICROSECONDS, parse_rfc3339
from whirr.durations import as_duration, duration_s
from whirr.retries import Backoff
from whirr.settings import Settings, load_settings
from whirr.terminal import printable

if TYPE_CHECKING:
    from feature_repo.client import FeatureClient, MachineFeatures

_STATES = {
    "critical": "bold red",
    "warning": "bold yellow",
    "clipped": "yellow",
    "flat": "yellow",
    "changed": "cyan",
    "silent": "magenta",
    "learning": "blue",
    "normal": "green",
    "idle": "dim",
    "": "dim",
}
_BACKOFF_S = (2.0, 10.0)
_FRAME_LINES = 3  # of the screen: heading, how many more there are, and one to spare
_EMPTY = "no machine has written features yet: a worker writes them once it hears frames (`whirr settings` shows how)"


def machines(
    machine: MachinePattern = "*",
    once: Annotated[
        bool, typer.Option("--once", help="Print the table once; so it is where there is no screen.")
    ] = False,
    interval_s: Annotated[float, typer.Option("--interval-s", help="Seconds between two looks.", min=0.1)] = 1.0,
    silent_after: Annotated[
        str | None,
        typer.Option(help="No frame for so long is silence (30s, 10m, 2h); default: as the machine's route says."),
    ] = None,
    yaml: StoreYaml = None,
    as_json: AsJson = False,
) -> None:
    """Show every machine: state, score, ratio to the alert threshold, level, and when it was last heard; worst first.

    Reads the feature store alone, so any number of people may look. Exit code 2: the store's definitions have not been
    applied; 3: it can't be reached (on a screen it is waited for).
    """
    silent_s = None if silent_after is None else duration_s(silent_after, "--silent-after")
    settings = load_settings(feature_store_yaml=yaml)
    live = stdout.is_terminal and not (as_json or once)
    with _waited_for(settings) if live else _opened(settings, quiet=as_json) as client:
        board = Board(client, settings, machine, silent_s)
        if as_json:
            print_json(board.summary())
        elif live:
            with contextlib.suppress(KeyboardInterrupt):
                _live(board, interval_s)
        else:
            board.look()
            stdout.print(board.drawn(None))


class Board:
    """The machines as they were when last looked at.

    Args:
        client: Reads them.
        settings: For the routes' silence.
        match: Pattern of machine ids.
        silent_s: What counts as silence; default: by route.
    """

    def __init__(self, client: FeatureClient, settings: Settings, match: str, silent_s: float | None) -> None:
        self._client, self._settings = client, settings
        self._match, self._silent_s = match, silent_s
        self._seen: list[MachineFeatures] = []
        self._at = datetime.now(UTC)
        self._trouble = ""

    def look(self) -> None:
        """Read the machines.

        Raises:
            ServiceUnavailable: The store can't be reached.
        """
        ids = [machine_id for machine_id in self._client.machine_ids() if fnmatchcase(machine_id, self._match)]
        self._seen = self._client.machines(ids)
        self._at = datetime.now(UTC)
        self._trouble = ""

    def gone(self, trouble: str) -> None:
        """Say below what was seen last why nothing newer is, and connect anew for the next look."""
        self._trouble = trouble
        self._at = datetime.now(UTC)
        self._client.close()

    def summary(self) -> dict[str, Any]:
        """Read the machines and return them, fit for JSON."""
        self.look()
        rows = [
            {
                "machine_id": one.machine_id,
                "state": self._state(one),
                "seen_at": one.seen_at,
                "age_s": round(self._age_s(one), 3),
                "audio": one.audio,
                "health": one.health,
            }
            for one in self._ranked()
        ]
        return {"store": self._client.shown, "at": self._at, "machines": rows}

    def drawn(self, lines: int | None) -> RenderableType:
        """Return the table, cut to so many lines of a screen."""
        below = _wrapped(self._trouble, "bold red")
        if not self._seen:
            hint = f"{self._client.shown}: {_EMPTY}"
            return Group(*([cell(hint)] if lines is None else _wrapped(hint)), *below)
        ranked = self._ranked()
        shown = ranked if lines is None else ranked[: max(1, lines - len(below) - _FRAME_LINES)]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("machine", "state"):
            table.add_column(name)
        for name in ("score", "ratio", "rms", "frames", "last heard"):
            table.add_column(name, justify="right")
        table.add_column("model", style="dim")
        for one in shown:
            table.add_row(*self._cells(one))
        if len(shown) < len(ranked):
            below.insert(0, Text(f"… and {len(ranked) - len(shown)} more, less urgent", "dim"))
        return Group(table, *below)

    def _cells(self, one: MachineFeatures) -> Sequence[RenderableType]:
        state = self._state(one)
        health = one.health
        return (
            cell(one.machine_id, "bold"),
            cell(self._state_in_words(one, state), _STATES.get(state, "")),
            _number(health.score_mean, ".3g"),
            _number(health.threshold_ratio, ".2f"),
            _number(one.audio.rms_mean, ".4f"),
            _number(health.frames_seen, "d"),
            f"{as_duration(round(self._age_s(one)))} ago",
            cell(health.model_version or "-"),
        )

    def _state(self, one: MachineFeatures) -> str:
        """Return the alert state; silence hides what was normal, learning or idle before it, but no alert."""
        from feature_repo.freshness import silent_after_s

        after_s = silent_after_s(self._settings, one.machine_id, self._silent_s)
        state = one.health.alert_state or ""
        quiet = state in ("normal", "learning", "idle", "")
        return "silent" if quiet and after_s is not None and self._age_s(one) > after_s else state

    def _state_in_words(self, one: MachineFeatures, state: str) -> str:
        """Return a state as the table shows it: of a machine that is learning, with for how long."""
        since = one.health.learning_since
        if state != "learning" or not since:
            return state or "-"
        return f"learning {as_duration(max(0, round(self._at.timestamp() - parse_rfc3339(since) / MICROSECONDS)))}"

    def _age_s(self, one: MachineFeatures) -> float:
        return (self._at - one.seen_at).total_seconds()

    def _ranked(self) -> list[MachineFeatures]:
        order = list(_STATES)

        def urgency(one: MachineFeatures) -> tuple[int, float, str]:
            state = self._state(one)
            return (order.index(state) if state in order else 0, -(one.health.threshold_ratio or 0.0), one.machine_id)

        return sorted(self._seen, key=urgency)


def _opened(settings: Settings, *, quiet: bool = False) -> FeatureClient:
    """Return a client; to import Feast alone takes seconds."""
    from feature_repo.client import FeatureClient

    with working("opening the feature store", quiet=quiet):
        return FeatureClient(settings)


def _waited_for(settings: Settings) -> FeatureClient:
    """Return a client, as soon as the store can be reached."""
    warned, backoff = "", Backoff(*_BACKOFF_S)
    while True:
        try:
            return _opened(settings)
        except ServiceUnavailable as error:
            if str(error) != warned:
                print_warning(f"{error}; trying again until Ctrl-C")
            warned = str(error)
        time.sleep(backoff.failed())


def _live(board: Board, interval_s: float) -> None:
    """Show the board until Ctrl-C; a store that is away is waited for, with the last that was seen on the screen."""
    with Live(console=stdout, auto_refresh=False, screen=True) as live:
        while True:
            try:
                board.look()
            except ServiceUnavailable as error:
                board.gone(f"{error}; trying again")
            live.update(board.drawn(stdout.size.height), refresh=True)
            time.sleep(interval_s)


def _wrapped(text: str, style: str = "") -> list[RenderableType]:
    """Return a sentence as lines of the screen: a full screen cuts what is too long, and its end says what to do."""
    return [Text(line, style) for line in textwrap.wrap(printable(text), stdout.width)]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
