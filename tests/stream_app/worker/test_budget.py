"""A budget that no honest machine reaches."""

from __future__ import annotations

from schemas import FrameRecord, format_rfc3339
from stream_app.worker.budget import BURST_S, Budgets

RATE = 100_000.0
WORST = 4_000_000
T0_MS = 1_767_225_600_000


def frame(offset: int, published_s: float, recorded_s: float | None = None, key: bytes = b"pump-1") -> FrameRecord:
    headers = () if recorded_s is None else (("ce_time", format_rfc3339(int(recorded_s * 1e6)).encode()),)
    return FrameRecord(key, b"x", headers, T0_MS + int(published_s * 1000), offset=offset)


def test_a_machine_that_asks_for_too_much_gets_its_rate_and_no_more() -> None:
    budgets = Budgets(RATE)
    seconds = 10_000
    admitted = sum(budgets.admits(frame(n, n / 5), WORST) for n in range(5 * seconds))
    assert admitted * WORST <= RATE * (BURST_S + seconds)
    assert admitted * WORST >= RATE * seconds


def test_a_backlog_after_an_outage_is_within_the_budget_however_fast_it_comes() -> None:
    budgets = Budgets(RATE)
    assert all(budgets.admits(frame(n, n), 64_000) for n in range(3 * 24 * 3600 // 10))


def test_so_is_what_a_gateway_sends_at_once_after_it_was_cut_off() -> None:
    budgets = Budgets(RATE)
    hours = [frame(n, n / 1000, 1.7e9 + 10 * n) for n in range(5_000)]
    assert all(budgets.admits(record, 160_000) for record in hours)


def test_frames_that_come_again_were_paid_for() -> None:
    budgets = Budgets(RATE)
    verdicts = [budgets.admits(frame(n, 0.0), WORST) for n in range(7)]
    assert verdicts == [True] * 7
    assert all(budgets.admits(frame(n, 0.0), WORST) for n in range(7))
    assert not budgets.admits(frame(7, 0.0), WORST)


def test_each_machine_has_a_budget_of_its_own() -> None:
    budgets = Budgets(RATE)
    assert not all(budgets.admits(frame(n, 0.0, key=b"evil"), WORST) for n in range(100))
    assert budgets.admits(frame(100, 0.0), WORST)


def test_a_recording_time_that_makes_no_sense_earns_nothing() -> None:
    budgets = Budgets(RATE)
    record = FrameRecord(b"evil", b"x", (("ce_time", b"\xff"), ("ce_time", b"later")), T0_MS, offset=1)
    assert not budgets.admits(record, int(2 * RATE * BURST_S))
