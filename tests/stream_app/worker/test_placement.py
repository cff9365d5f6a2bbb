"""Machines whose gateways disagree about the partition of a key."""

from __future__ import annotations

import pytest

from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.placement import Placement
from stream_app.worker.sender import partition_of


def mismatches(metrics: WorkerMetrics) -> float | None:
    return metrics.registry.get_sample_value("whirr_partitioner_mismatch_total")


def test_murmur2_is_javas() -> None:
    # From Kafka's own UtilsTest: murmur2 of these keys, made positive, modulo 1000.
    assert partition_of(b"21", 1000) == (-973932308 & 0x7FFFFFFF) % 1000
    assert partition_of(b"foobar", 1000) == (-790332482 & 0x7FFFFFFF) % 1000
    assert partition_of(b"a-little-bit-long-string", 1000) == (-985981536 & 0x7FFFFFFF) % 1000


def test_frames_where_murmur2_puts_them_are_no_news() -> None:
    placement = Placement(8, metrics := WorkerMetrics())
    for key in (b"pump-1", b"pump-2"):
        placement.see(key, partition_of(key, 8))
    assert mismatches(metrics) == 0


def test_another_partitioner_is_told_once_for_each_machine(caplog: pytest.LogCaptureFixture) -> None:
    placement = Placement(8, metrics := WorkerMetrics())
    for _ in range(3):
        placement.see(b"pump-1", partition_of(b"pump-1", 8) ^ 1)
    assert mismatches(metrics) == 1
    assert caplog.text.count("pump-1") == 1
    assert "murmur2_random" in caplog.text


def test_made_up_machines_use_no_memory_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_app.worker.placement._MAX_MACHINES", 10)
    placement = Placement(8, metrics := WorkerMetrics())
    for number in range(100):
        key = f"made-up-{number}".encode()
        placement.see(key, partition_of(key, 8) ^ 1)
    assert len(placement._seen) == len(placement._warned) == 10
    placement.see(b"pump-1", partition_of(b"pump-1", 8) ^ 1)
    placement.see(b"pump-1", partition_of(b"pump-1", 8) ^ 1)
    assert mismatches(metrics) == 101, "an honest one is told all the same, and once"


def test_two_partitions_for_one_machine_are_told(caplog: pytest.LogCaptureFixture) -> None:
    placement = Placement(8, metrics := WorkerMetrics())
    right = partition_of(b"pump-1", 8)
    placement.see(b"pump-1", right)
    placement.see(b"pump-1", right ^ 1)
    placement.see(b"pump-1", right)
    assert mismatches(metrics) == 1
    assert f"and on {right}" in caplog.text
