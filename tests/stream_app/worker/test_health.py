"""When a worker counts as stuck, and what ready means."""

from __future__ import annotations

from itertools import product

import pytest

from stream_app.worker.health import Progress, Readiness


def test_nothing_waits_when_all_is_reached() -> None:
    progress = Progress()
    assert progress.observe(0.0, {0: 5, 1: 7}, {0: 5, 1: 9}) == 0
    assert progress.observe(100.0, {0: 5}, {0: 5}) == 0


def test_waiting_without_movement_grows() -> None:
    progress = Progress()
    assert progress.observe(0.0, {0: 5}, {0: 3}) == 0
    assert progress.observe(4.0, {0: 5}, {0: 3}) == 4.0
    assert progress.observe(9.0, {0: 50}, {0: 3}) == 9.0


def test_movement_starts_the_count_again() -> None:
    progress = Progress()
    progress.observe(0.0, {0: 5}, {0: 3})
    assert progress.observe(4.0, {0: 9}, {0: 4}) == 0
    assert progress.observe(5.0, {0: 9}, {0: 4}) == 1.0


def test_the_slowest_partition_counts() -> None:
    progress = Progress()
    progress.observe(0.0, {0: 5, 1: 5}, {0: 3, 1: 3})
    assert progress.observe(10.0, {0: 9, 1: 9}, {0: 4, 1: 3}) == 10.0


def test_a_partition_that_never_moved_waits_too() -> None:
    progress = Progress()
    progress.observe(0.0, {0: 5}, {})
    assert progress.observe(3.0, {0: 5}, {}) == 3.0


def test_catching_up_ends_the_wait() -> None:
    progress = Progress()
    progress.observe(0.0, {0: 5}, {})
    assert progress.observe(50.0, {0: 5}, {0: 5}) == 0
    assert progress.observe(51.0, {0: 6}, {0: 5}) == 0


def test_a_rebalance_starts_over() -> None:
    progress = Progress()
    progress.observe(0.0, {0: 5}, {})
    progress.reset()
    assert progress.observe(50.0, {0: 5}, {}) == 0


@pytest.mark.parametrize("held", list(product([True, False], repeat=5)))
def test_ready_means_all_of_it(held: tuple[bool, bool, bool, bool, bool]) -> None:
    readiness = Readiness(*held)
    assert readiness.ready == all(held)
    shown = readiness.to_json(partitions=[1])
    assert shown["ready"] == all(held)
    assert shown["partitions"] == [1]
    assert len(shown["reasons"]) == held.count(False)
    assert sum(value is False for name, value in shown.items() if name != "ready") == held.count(False)
