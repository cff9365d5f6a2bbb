"""What ``make bench-scale`` counts, without its workers."""

from __future__ import annotations

import pytest

from benchmarks.scale import (
    MACHINES_A_PARTITION,
    Moment,
    Sent,
    Throughput,
    _figures,
    _ratios,
    _standstill_s,
    machines_by_partition,
)
from stream_app.worker.sender import partition_of

OWNERS = {0: 0, 1: 1}


def _steady(answered_after_s: float = 0.05) -> tuple[dict[str, Sent], dict[str, list[float]]]:
    """Twenty seconds of a frame each half second on either of two partitions."""
    sent = {f"{partition}-{step}": Sent(partition, step / 2) for partition in OWNERS for step in range(40)}
    return sent, {identity: [one.at_s + answered_after_s] for identity, one in sent.items()}


def test_every_partition_has_as_many_machines_and_their_keys_put_them_there() -> None:
    found = machines_by_partition(6)
    assert [len(machines) for machines in found] == [MACHINES_A_PARTITION] * 6
    assert all(partition_of(name.encode(), 6) == place for place, own in enumerate(found) for name in own)


def test_lost_repeated_and_unexpected_frames_are_counted_by_their_ids() -> None:
    sent, answered = _steady()
    del answered["0-3"]
    answered["1-4"].append(9.0)
    answered["nobody's"] = [1.0]
    figures = _figures(sent, answered, [])
    assert (figures["frames"], figures["lost"], figures["repeated"], figures["unexpected"]) == (80, 1, 1, 1)


def test_a_rebalance_takes_as_long_as_a_partition_stands_still() -> None:
    sent, answered = _steady()
    moment = Moment("join", 5.0, 15.0, OWNERS, {0: 0, 1: 2})
    assert _standstill_s(sent, answered, moment) == pytest.approx(0.5)
    for step in range(14, 20):  # partition 1 stands still from 7 s to 10 s
        answered[f"1-{step}"] = [10.0]
    figures = _figures(sent, answered, [moment])
    assert figures["rebalance_s_join"] == pytest.approx(10.0 - 6.55, abs=0.01)
    assert figures["partitions_moved_join"] == 1
    assert figures["lag_join"] == 7
    # The others are those of partition 0, which stays where it was.
    assert figures["others_latency_ms_p99_join"] == pytest.approx(50.0)


def test_workers_are_compared_with_one_as_they_were_and_by_processor_time() -> None:
    alone = Throughput(200.0, 0.4, 500.0, 0.04, 0.0, 1.0)
    two = Throughput(360.0, 0.36, 500.0, 0.09, 0.0, 1.0)  # the machine had no more for them
    assert _ratios({1: alone, 2: two}) == {"scale_2_vs_1": 1.8, "scale_2_vs_1_per_cpu": 2.0}
