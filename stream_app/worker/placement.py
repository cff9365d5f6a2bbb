"""Notices machines whose gateways disagree about the partition of a key."""

from __future__ import annotations

import logging

from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.sender import partition_of

log = logging.getLogger(__name__)

_MAX_MACHINES = 65_536


class Placement:
    """Warns once for each machine that is not, or not only, where murmur2 would put it.

    Java's and aiokafka's producers place a key by murmur2, librdkafka's (kcat) by CRC32 unless told otherwise. Two
    kinds of gateway for one machine would split its stream over two partitions, and so over two states.

    Args:
        partitions: Of the frames topic.
        metrics: Where each such machine is counted.
    """

    def __init__(self, partitions: int, metrics: WorkerMetrics) -> None:
        self._partitions = partitions
        self._metrics = metrics
        self._seen: dict[bytes, int] = {}
        self._warned: dict[bytes, None] = {}  # in order, so that the oldest makes room

    def see(self, key: bytes, partition: int) -> None:
        """Take note of a frame of machine ``key`` on ``partition``."""
        before = self._seen.get(key)
        if before == partition or key in self._warned:
            return
        if before is None and len(self._seen) >= _MAX_MACHINES:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = partition
        murmur2 = partition_of(key, self._partitions)
        if before is None and partition == murmur2:
            return
        if len(self._warned) >= _MAX_MACHINES:
            del self._warned[next(iter(self._warned))]
        self._warned[key] = None
        self._metrics.partitioner_mismatch.inc()
        where = f"{partition}, where murmur2 gives {murmur2}" if before is None else f"{partition} and on {before}"
        log.warning(
            "machine %s has frames on partition %s: give librdkafka producers partitioner=murmur2_random",
            key.decode(),
            where,
        )
