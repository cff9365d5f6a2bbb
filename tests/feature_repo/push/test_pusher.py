"""What is written, what is not, and when, on a store that is a dictionary."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from feature_repo.push.pusher import CHUNK_ROWS, TRUSTED_S, Pusher
from feature_repo.rows import FeatureRow
from schemas.errors import ServiceUnavailable
from tests.feature_stores import row


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Shelf:
    """A store that overwrites blindly, as SQLite and PostgreSQL do."""

    shown = "shelf"

    def __init__(self) -> None:
        self.rows: dict[str, FeatureRow] = {}
        self.away = ""
        self.reads = 0
        self.pushes: list[int] = []
        self.connections = 0

    def connect(self) -> Shelf:
        self.connections += 1
        return self

    def stored_us(self, machine_ids: Sequence[str]) -> dict[str, int]:
        self._answer()
        self.reads += len(machine_ids)
        return {name: self.rows[name].event_us for name in machine_ids if name in self.rows}

    def push(self, rows: Sequence[FeatureRow]) -> None:
        self._answer()
        self.pushes.append(len(rows))
        self.rows |= {row.machine_id: row for row in rows}

    def _answer(self) -> None:
        if self.away:
            raise ServiceUnavailable(self.away)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pusher(shelf: Shelf, clock: Clock) -> Pusher:
    return Pusher(shelf.connect, clock)


def test_the_latest_row_of_each_machine_is_written_in_one_push(pusher: Pusher, shelf: Shelf):
    rows = [row("a", 1), row("b", 1), row("a", 3), row("a", 2)]
    pusher.put(rows)
    assert not pusher.is_connected
    report = pusher.flush()
    assert pusher.is_connected
    assert (report.pushed, report.stale, report.pending, shelf.pushes) == (2, 0, 0, [2])
    assert shelf.rows == {"a": rows[2], "b": rows[1]}
    assert pusher.due_in_s is None


def test_a_row_that_the_store_has_overtaken_is_dropped(pusher: Pusher, shelf: Shelf):
    newer = shelf.rows["a"] = row("a", 5)
    pusher.put([row("a", 4)])
    assert pusher.flush().stale == 1
    assert shelf.rows["a"] is newer


def test_stored_times_are_read_once_and_again_after_a_pause_a_failure_and_a_rebalance(
    pusher: Pusher, shelf: Shelf, clock: Clock
):
    def flushed(second: float) -> int:
        pusher.put([row("a", second)])
        before = shelf.reads
        pusher.flush()
        return shelf.reads - before

    assert [flushed(1), flushed(2), flushed(3)] == [1, 0, 0]
    clock.now_s += TRUSTED_S + 1
    assert [flushed(4), flushed(5)] == [1, 0]
    pusher.forget()
    assert [flushed(6), flushed(7)] == [1, 0]
    shelf.away = "away"
    flushed(8)
    shelf.away = ""
    assert [flushed(9), flushed(10)] == [1, 0]


def test_a_worker_that_wakes_from_a_pause_does_not_overwrite_what_another_wrote(
    pusher: Pusher, shelf: Shelf, clock: Clock
):
    pusher.put([row("a", 1)])
    pusher.flush()
    pusher.put([row("a", 2)])
    clock.now_s += 60
    newer = shelf.rows["a"] = row("a", 30)
    assert pusher.flush().stale == 1
    assert shelf.rows["a"] is newer


def test_what_was_recovered_is_written_only_where_the_store_lacks_it(pusher: Pusher, shelf: Shelf):
    rows = [row("a", 1), row("b", 1)]
    pusher.put(rows)
    pusher.flush()
    del shelf.rows["b"]
    pusher.put(rows, recovered=True)
    report = pusher.flush()
    assert (report.pushed, report.stale) == (1, 1)
    assert shelf.rows["b"] is rows[1]


def test_a_store_that_is_away_is_said_once_and_gets_every_machine_when_it_is_back(
    pusher: Pusher, shelf: Shelf, clock: Clock, caplog: pytest.LogCaptureFixture, longest_waits: None
):
    caplog.set_level(logging.INFO)
    shelf.away = "shelf is away"
    waits = []
    for second in range(1, 9):
        pusher.put([row("a", second), row(f"m{second}", second)])
        report = pusher.flush()
        assert report.failed
        assert report.pending == 1 + second
        assert not pusher.is_connected
        waits.append(pusher.due_in_s)
        clock.now_s += pusher.due_in_s or 0
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    shelf.away = ""
    report = pusher.flush()
    assert report.is_back
    assert (report.pushed, report.pending) == (9, 0)
    assert shelf.rows == {"a": row("a", 8)} | {f"m{second}": row(f"m{second}", second) for second in range(1, 9)}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert pusher.is_connected
    assert shelf.connections == 9, "a connection that failed is not used again"
    pusher.put([row("a", 10)])
    assert not pusher.flush().is_back


def test_many_machines_go_in_portions_and_what_was_written_before_a_failure_is_not_written_again(
    pusher: Pusher, shelf: Shelf
):
    pusher.put([row(f"m{i}", 1) for i in range(CHUNK_ROWS + 5)])
    written = shelf.push

    def fails_the_second_time(rows: Sequence[FeatureRow]) -> None:
        if shelf.pushes:
            raise ServiceUnavailable("away")
        written(rows)

    shelf.push = fails_the_second_time  # type: ignore[method-assign]
    report = pusher.flush()
    assert (report.failed, report.pushed, report.pending) == (True, CHUNK_ROWS, 5)
    shelf.push = written  # type: ignore[method-assign]
    assert pusher.flush().pushed == 5
    assert shelf.pushes == [CHUNK_ROWS, 5]


def test_what_is_forgotten_is_not_written(pusher: Pusher, shelf: Shelf):
    shelf.away = "away"
    pusher.put([row("a", 1)])
    pusher.flush()
    shelf.away = ""
    pusher.forget()
    pusher.put([row("b", 1)])
    pusher.flush()
    assert list(shelf.rows) == ["b"]
