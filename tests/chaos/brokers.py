"""What the brokers say of themselves: whether every replica of every partition is in sync."""

from __future__ import annotations

import asyncio
import time

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.services import KafkaCluster

IN_SYNC_S = 180.0


async def wait_in_sync(cluster: KafkaCluster, deadline_s: float = IN_SYNC_S) -> None:
    """Return once every partition has a leader and all its replicas in sync: another broker may go now.

    Raises:
        TimeoutError: They are not in time; the message names the partitions that lack some.
    """
    end = time.monotonic() + deadline_s
    while True:
        try:
            behind = await asyncio.wait_for(_behind(cluster.address), 15)
        except (KafkaError, OSError, TimeoutError) as error:
            behind = [f"no answer: {error!r}"]
        if not behind:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"replicas were not in sync within {deadline_s:g} s: {', '.join(behind[:10])}")
        await asyncio.sleep(0.5)


async def _behind(bootstrap: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    await admin.start()
    try:
        topics = await admin.describe_topics()
    finally:
        await admin.close()
    return [
        f"{topic['topic']}/{partition['partition']} has {partition['isr']} of {partition['replicas']}"
        for topic in topics
        for partition in topic["partitions"]
        if partition["leader"] < 0 or set(partition["isr"]) != set(partition["replicas"])
    ]
