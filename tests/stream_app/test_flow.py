"""Computation and sending overlap, in order, and a failure ends both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from schemas import FrameRecord
from stream_app.flow import Flow
from stream_app.metrics import Metrics
from stream_app.processor import Taken
from tests.helpers import eventually_async


def taken(offset: int, size: int = 1) -> Taken:
    return Taken(FrameRecord(b"pump-1", bytes(size), offset=offset), 1, lambda: None)


class Finisher:
    def __init__(self) -> None:
        self.finished: list[list[int]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def finish(self, batch: Sequence[Taken], answers: Sequence[Any]) -> None:
        await self.go_on.wait()
        assert [entry.record.offset for entry in batch] == list(answers)
        self.finished.append([entry.record.offset for entry in batch])


async def offsets(records: Sequence[FrameRecord]) -> list[Any]:
    return [record.offset for record in records]


async def test_batches_are_finished_in_order() -> None:
    finisher = Finisher()
    flow = Flow(offsets, finisher, Metrics())  # type: ignore[arg-type]
    running = asyncio.create_task(flow.run())
    for offset in range(0, 20, 2):
        await flow.put([taken(offset), taken(offset + 1)])
    await eventually_async(lambda: len(finisher.finished) == 10)
    assert [offset for batch in finisher.finished for offset in batch] == list(range(20))
    running.cancel()


async def test_the_next_batch_is_computed_while_one_is_being_finished() -> None:
    finisher = Finisher()
    finisher.go_on.clear()
    computed: list[int] = []

    async def compute(records: Sequence[FrameRecord]) -> list[Any]:
        computed.append(records[0].offset)
        return await offsets(records)

    flow = Flow(compute, finisher, Metrics())  # type: ignore[arg-type]
    running = asyncio.create_task(flow.run())
    await flow.put([taken(0)])
    await flow.put([taken(1)])
    await eventually_async(lambda: computed == [0, 1])
    assert finisher.finished == []
    finisher.go_on.set()
    await eventually_async(lambda: finisher.finished == [[0], [1]])
    running.cancel()


async def test_what_is_on_its_way_is_bounded() -> None:
    finisher = Finisher()
    finisher.go_on.clear()
    running = asyncio.create_task((flow := Flow(offsets, finisher, Metrics())).run())  # type: ignore[arg-type]
    put: list[int] = []

    async def put_all() -> None:
        for offset in range(100):
            await flow.put([taken(offset)])
            put.append(offset)

    putting = asyncio.create_task(put_all())
    done, _ = await asyncio.wait({putting}, timeout=0.2)
    assert not done
    assert len(put) < 5
    putting.cancel()
    running.cancel()


async def test_a_batch_of_large_frames_is_cut() -> None:
    finisher = Finisher()
    running = asyncio.create_task((flow := Flow(offsets, finisher, Metrics())).run())  # type: ignore[arg-type]
    await flow.put([taken(offset, 3_000_000) for offset in range(5)])
    await eventually_async(lambda: sum(map(len, finisher.finished)) == 5)
    assert finisher.finished == [[0, 1], [2, 3], [4]]
    running.cancel()


async def test_a_failure_ends_the_flow() -> None:
    class Failing(Finisher):
        async def finish(self, batch: Sequence[Taken], answers: Sequence[Any]) -> None:
            raise ConnectionError("away")

    running = asyncio.create_task((flow := Flow(offsets, Failing(), Metrics())).run())  # type: ignore[arg-type]
    await flow.put([taken(0)])
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert caught.group_contains(ConnectionError, match="away")
