"""Transactions that stay open: what they hide, from when on, and what is said of them."""

from __future__ import annotations

from stream_app.worker.open_transactions import LONG_S, SHORT_S, OpenTransactions


def test_nothing_is_hidden_where_all_that_is_stored_is_committed_or_nothing_is_known() -> None:
    seen = OpenTransactions()
    for now_s in (0.0, SHORT_S + 1, 10 * LONG_S):
        assert not seen.hides(0, 7, 7, now_s)
        assert not seen.hides(1, None, 9, now_s)
        assert not seen.hides(2, 9, None, now_s)


def test_an_ordinary_transaction_hides_nothing_and_one_that_stays_open_does_in_its_partition_alone() -> None:
    seen = OpenTransactions()
    assert not seen.hides(0, 5, 9, 100.0)
    assert not seen.hides(0, 5, 9, 100.0 + SHORT_S)
    assert seen.hides(0, 5, 12, 100.1 + SHORT_S)
    assert not seen.hides(1, 5, 9, 100.1 + SHORT_S)


def test_whatever_is_committed_begins_the_time_anew() -> None:
    seen = OpenTransactions()
    seen.hides(0, 5, 9, 0.0)
    assert not seen.hides(0, 6, 9, SHORT_S + 1), "another transaction is open now"
    assert seen.hides(0, 6, 9, 2 * SHORT_S + 2)
    assert not seen.hides(0, 9, 9, 2 * SHORT_S + 3)
    assert not seen.hides(0, 9, 10, 2 * SHORT_S + 4), "what was hidden before does not count"


def test_it_says_after_a_minute_where_and_how_many_records_wait() -> None:
    messages: list[str] = []
    seen = OpenTransactions(messages.append)
    for now_s in (0.0, LONG_S, LONG_S + 1, LONG_S + 2):
        seen.hides(3, 5, 12, now_s)
    assert messages == [
        "partition 3: a producer's transaction has been open for 61 s at offset 5; 7 records wait behind it"
    ], "once, not each second"
