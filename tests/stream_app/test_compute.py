"""The computing process: it answers as the engine does, takes new models, and neither process outlives the other."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import DeadLetter
from stream_app.compute import ComputeFailed, ComputeProcess
from stream_app.models import load_champions
from stream_app.pipeline import Engine
from stream_app.slots import SLOT_BYTES
from tests.helpers import eventually
from tests.models import course, encoded, noise, record, tiny_metadata, tiny_model
from whirr.errors import ModelError
from whirr.settings import Route


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def compute(path: Path):
    process = ComputeProcess((Route(model=str(path)),), "warning")
    process.start()
    yield process
    process.stop()


async def loaded(compute: ComputeProcess, path: Path) -> Engine:
    champions = load_champions((Route(model=str(path)),))
    await compute.load(champions.router, champions.files)
    return Engine(champions.router)


async def test_it_answers_as_the_engine_does(compute, path):
    engine = await loaded(compute, path)
    low = record(encoded(noise(rate_hz=8_000), 8_000))
    records = [*course([1, 5, 10]), record(b"no audio"), record(None), low]
    there, here = await compute(records), engine.compute(records)
    for far, near in zip(there, here, strict=True):
        if isinstance(near, DeadLetter):
            assert far == near
            continue
        assert far.frame == near.frame
        assert far.frame.record is near.frame.record
        assert far.routed is near.routed
        outcomes = [engine.advance(answer, None, 0) for answer in (far, near)]
        assert outcomes[0].score == outcomes[1].score
        assert outcomes[0].score.unfamiliar == (("rate",) if near.frame.record is low else ())
        assert outcomes[0].state.to_bytes() == outcomes[1].state.to_bytes()


async def test_a_batch_that_outgrows_the_shared_memory_is_answered_all_the_same(compute, path):
    engine = await loaded(compute, path)
    large = record(b"\0" * (SLOT_BYTES - 1000))
    (near,) = engine.compute(course([1]))
    _, inside, outside = await compute([large, record(b"no audio"), *course([1])])
    assert isinstance(inside, DeadLetter)
    assert outside.frame == near.frame
    assert outside.score == near.score


async def test_batches_at_hand_do_not_mix(compute, path):
    engine = await loaded(compute, path)
    batches = [course([1, level], f"pump-{level}") for level in range(1, 7)]
    for answers, records in zip(await asyncio.gather(*map(compute, batches)), batches, strict=True):
        assert [a.frame.frame_id for a in answers] == [a.frame.frame_id for a in engine.compute(records)]
        assert [a.score for a in answers] == [a.score for a in engine.compute(records)]


async def test_it_takes_new_models_and_refuses_others_than_the_ones_meant(compute, path):
    await loaded(compute, path)
    tiny_model(path, replace(tiny_metadata(), version="2"), scale=2.0)
    champions = load_champions((Route(model=str(path)),))
    with pytest.raises(ModelError, match="changes while it is being read"):
        await compute.load(champions.router, {str(path): (str(path), "0" * 64)})
    (before,) = await compute(course([1]))
    await compute.load(champions.router, champions.files)
    (after,) = await compute(course([1]))
    assert after.score == pytest.approx(2 * before.score)
    assert after.routed.model.metadata.version == "2"


async def test_its_end_is_an_error(compute, path):
    await loaded(compute, path)
    os.kill(compute.pid, signal.SIGKILL)
    with pytest.raises(ComputeFailed, match="has gone"):
        await compute(course([1]))


async def test_stopping_ends_it(path):
    compute = ComputeProcess((Route(model=str(path)),), "warning")
    compute.start()
    await loaded(compute, path)
    pid = compute.pid
    compute.stop()
    eventually(lambda: not Path(f"/proc/{pid}").exists() if Path("/proc").exists() else True)
