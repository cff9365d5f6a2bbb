"""Computation and sending overlap, in order, and a failure ends both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from schemas import FrameRecord
from stream_app.flow import Flow
from stream_app.metrics import Metrics
from stream_app.processor import Taken
from tests.helpers import eventually_async


def taken(offset: int, size: int = 1) -> Taken:
    return Taken(FrameRecord(b"pump-1", bytes(size), offset=offset), 1, lambda: None)


class Stages:
    """Both stages, with a gate before each: what was computed and what was finished, as lists of offsets."""

    def __init__(self) -> None:
        self.computed: list[list[int]] = []
        self.finished: list[list[int]] = []
        self.may_compute, self.may_finish = asyncio.Event(), asyncio.Event()
        self.may_compute.set()
        self.may_finish.set()

    async def compute(self, records: Sequence[FrameRecord]) -> list[Any]:
        self.computed.append([record.offset for record in records])
        await self.may_compute.wait()
        return [record.offset for record in records]

    async def finish(self, batch: Sequence[Taken], answers: Sequence[Any]) -> None:
        await self.may_finish.wait()
        assert [entry.record.offset for entry in batch] == list(answers)
        self.finished.append(list(answers))


@asynccontextmanager
async def running(stages: Stages, batch_frames: int = 2) -> AsyncIterator[Callable[..., Any]]:
    flow = Flow(stages.compute, stages, Metrics(), batch_frames)  # type: ignore[arg-type]
    task = asyncio.create_task(flow.run())
    try:
        yield flow.put
    finally:
        task.cancel()


async def test_frames_are_finished_in_order() -> None:
    stages = Stages()
    async with running(stages) as put:
        for offset in range(0, 20, 2):
            await put([taken(offset), taken(offset + 1)])
        await eventually_async(lambda: [offset for batch in stages.finished for offset in batch] == list(range(20)))


async def test_the_next_batch_is_computed_while_one_is_being_finished() -> None:
    stages = Stages()
    stages.may_finish.clear()
    async with running(stages, 1) as put:
        await put([taken(0)])
        await put([taken(1)])
        await eventually_async(lambda: stages.computed == [[0], [1]])
        assert stages.finished == []
        stages.may_finish.set()
        await eventually_async(lambda: stages.finished == [[0], [1]])


async def test_frames_that_come_while_the_computation_is_busy_go_together() -> None:
    stages = Stages()
    stages.may_compute.clear()
    async with running(stages, 64) as put:
        await put([taken(0)])
        await eventually_async(lambda: stages.computed == [[0]])
        for offset in range(1, 12):
            await put([taken(offset)])
        stages.may_compute.set()
        await eventually_async(lambda: len(stages.finished) == 2)
    assert stages.finished == [[0], list(range(1, 12))]


async def test_a_full_batch_is_at_hand_while_one_is_being_computed() -> None:
    stages = Stages()
    stages.may_compute.clear()
    async with running(stages, 2) as put:
        await put([taken(0)])
        await eventually_async(lambda: stages.computed == [[0]])
        await put([taken(1), taken(2)])
        await put([taken(3)])
        await eventually_async(lambda: stages.computed == [[0], [1, 2]])
        stages.may_compute.set()
        await eventually_async(lambda: stages.finished == [[0], [1, 2], [3]])


async def test_what_is_on_its_way_is_bounded() -> None:
    stages = Stages()
    stages.may_compute.clear()
    put_in: list[int] = []
    async with running(stages, 2) as put:

        async def put_all() -> None:
            for offset in range(100):
                await put([taken(offset)])
                put_in.append(offset)

        putting = asyncio.create_task(put_all())
        done, _ = await asyncio.wait({putting}, timeout=0.2)
        assert not done
        putting.cancel()
    assert len(put_in) <= 3 * 2
    assert all(len(batch) <= 2 for batch in stages.computed)


async def test_large_frames_go_in_small_batches() -> None:
    stages = Stages()
    async with running(stages, 64) as put:
        await put([taken(offset, 3_000_000) for offset in range(5)])
        await eventually_async(lambda: sum(map(len, stages.finished)) == 5)
    assert stages.finished == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("stage", ["compute", "finish"])
async def test_a_failure_ends_the_flow(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ConnectionError("away")

    stages = Stages()
    monkeypatch.setattr(stages, stage, fail)
    flow = Flow(stages.compute, stages, Metrics())  # type: ignore[arg-type]
    await flow.put([taken(0)])
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(flow.run(), 5)
    assert caught.group_contains(ConnectionError, match="away")
