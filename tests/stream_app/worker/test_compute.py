"""The computing process: it answers as the engine does, takes new models, is replaced when it dies or hangs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas import Condition, DeadLetter
from schemas.errors import ModelError
from stream_app.pipeline import Engine, Model, Router
from stream_app.worker.champions import Champions, load_champions, load_model
from stream_app.worker.compute import ComputeFailed, ComputeProcess
from stream_app.worker.lineups import Beside, ModelFile, ServingPlan
from stream_app.worker.slots import SLOT_BYTES
from tests.helpers import eventually_async, is_running
from tests.models import START_US, conditioned_model, course, encoded, noise, record, tiny_metadata, tiny_model
from tests.stream_app.pipeline.test_model_stack import saved
from tests.stream_app.worker.crashing_child import DEADLY
from whirr.settings import Route

HOUR_US = 3_600_000_000

pytestmark = pytest.mark.slow  # each starts a computing process


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


async def test_it_knows_how_the_machine_ran(compute, path):
    engine = await loaded(compute, conditioned_model(path))
    value = encoded(noise())
    records = [record(value, condition=Condition(1500.0, load)) for load in (None, 50.0, 80.0, 120.0)]
    there, here = await compute(records), engine.compute(records)
    assert [far.frame for far in there] == [near.frame for near in here]
    assert [far.score for far in there] == [near.score for near in here]
    assert len({far.score for far in there}) == 3
    assert [far.unfamiliar for far in there] == [(), (), (), ("condition",)]


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


async def test_it_judges_by_recording_time_and_scores_in_shadow_as_the_engine_does(compute, path, tmp_path):
    engine = await loaded_with(compute, path, tmp_path, before=5.0, challenger=2.0)
    frames = [*course([1, 5]), *course([1, 5], start_us=START_US + HOUR_US)]
    there, here = await compute(frames), engine.compute(frames)
    assert [far.routed for far in there] == [near.routed for near in here]
    assert [far.routed.model.metadata.version for far in there] == ["before", "before", "1", "1"]
    for far, near in zip(there, here, strict=True):
        outcomes = [engine.advance(answer, None, 0) for answer in (far, near)]
        assert outcomes[0].score == outcomes[1].score
        assert outcomes[0].shadow == outcomes[1].shadow
        assert outcomes[0].shadow.model.version == "challenger"
    assert compute.shadows == 1


@pytest.mark.parametrize(("ending", "reason"), [("hangs", "timed_out"), ("gives no number", "failed")])
async def test_a_challenger_that_fails_costs_no_answer_and_is_asked_no_more(path, tmp_path, caplog, ending, reason):
    dropped: list[str] = []
    async with started(path, timeout_s=4.0) as (compute, alone):
        compute.on_shadow_dropped = dropped.append
        how = "endless_from" if ending == "hangs" else "nan_from"
        await loaded_with(compute, path, tmp_path, challenger=1.0, **{how: 3.0})
        frames = course([1, 10, 1])  # ten times as loud is 4.6 nepers
        for _ in range(2):
            answers = await compute(frames)
            assert [answer.score for answer in answers] == [near.score for near in alone.compute(frames)]
        assert [answer.shadow for answer in answers] == [None] * 3
        assert dropped == [reason]
        assert compute.shadows == 0
        assert caplog.text.count("challenger tiny version challenger scores no more in shadow") == 1


async def test_a_frame_that_hangs_the_champion_is_no_challengers_fault(path, tmp_path):
    tiny_model(path, endless_from=3.0)
    dropped: list[str] = []
    async with started(path, timeout_s=3.0) as (compute, _):
        compute.on_shadow_dropped = dropped.append
        await loaded_with(compute, path, tmp_path, challenger=1.0)
        answers = await compute(course([1, 10]))
        assert isinstance(answers[1], DeadLetter)
        assert (dropped, compute.shadows) == ([], 1)
        (again,) = await compute(course([1]))
        assert again.shadow is not None


async def test_a_challenger_that_can_not_be_loaded_leaves_the_champion_to_be_used(compute, path, tmp_path):
    dropped: list[str] = []
    compute.on_shadow_dropped = dropped.append
    champions, beside = lineup_beside(path, tmp_path, challenger=1.0)
    file = beside.files["models:/tiny/3"]
    Path(file.path).write_bytes(b"no model")
    broken = beside._replace(files={"models:/tiny/3": file._replace(digest=hashlib.sha256(b"no model").hexdigest())})
    await compute.load(champions.router, champions.files, broken)
    (answer,) = await compute(course([1]))
    assert (answer.shadow, dropped, compute.shadows) == (None, ["refused"], 0)


async def test_a_child_that_dies_while_nobody_asks_is_replaced(compute, path):
    await loaded(compute, path)
    lost: list[str] = []
    compute.on_lost = lost.append
    before = compute.pid
    os.kill(before, signal.SIGKILL)
    (answer,) = await compute(course([1]))
    assert answer.score > 0
    assert compute.pid != before


async def test_a_child_that_hangs_is_replaced_and_every_frame_is_answered(path):
    async with started(path, timeout_s=4.0) as (compute, engine):
        lost: list[str] = []
        compute.on_lost = lost.append
        before = compute.pid
        os.kill(before, signal.SIGSTOP)
        batches = [course([1, 5, 10], f"pump-{number}") for number in range(4)]
        for answers, records in zip(await asyncio.gather(*map(compute, batches)), batches, strict=True):
            assert [a.score for a in answers] == [a.score for a in engine.compute(records)]
        assert lost == ["timed_out"]
        await gone(before)


async def test_a_frame_that_hangs_the_computation_becomes_a_dead_letter_and_the_others_are_scored(path):
    tiny_model(path, endless_from=3.0)
    progress: list[int] = []
    async with started(path, timeout_s=4.0) as (compute, _):
        compute.on_progress = lambda: progress.append(1)
        records = course([1, 10, 1])  # ten times as loud is 4.6 nepers
        beside = course([1, 1], "pump-2")
        answers, others = await asyncio.gather(compute(records), compute(beside))
        letter = answers[1]
        assert isinstance(letter, DeadLetter)
        assert letter.code == "computation_timed_out"
        assert letter.record is records[1]
        assert "took more than 4 s" in letter.detail
        for answer in (answers[0], answers[2], *others):
            assert 0 < answer.score < 1
        assert len(progress) == 3, "the watchdog is told that it gets on"


async def test_a_frame_that_kills_the_computing_process_becomes_a_dead_letter(path, monkeypatch):
    monkeypatch.setattr("stream_app.worker.compute.CHILD", "tests.stream_app.worker.crashing_child")
    async with started(path) as (compute, _):
        lost: list[str] = []
        compute.on_lost = lost.append
        answers = await compute([*course([1, 1]), record(DEADLY), *course([1])])
        assert [getattr(answer, "code", None) for answer in answers] == [None, None, "computation_crashed", None]
        assert "signal 9" in answers[2].detail
        assert lost == ["crashed", "crashed"]


async def test_a_model_that_hangs_on_every_frame_ends_the_worker_and_makes_no_dead_letters(path):
    """Else each frame would be one, after a long wait, for as long as nobody looks."""
    tiny_model(path, endless_from=-6.0)  # silence, which is tried at load, is quieter
    async with started(path, timeout_s=1.0) as (compute, _):
        with pytest.raises(ComputeFailed, match="also for a healthy frame"):
            await compute(course([1]))


async def test_a_process_that_can_not_be_started_anew_ends_the_worker(path, monkeypatch):
    async with started(path) as (compute, _):
        os.kill(compute.pid, signal.SIGKILL)
        monkeypatch.setattr("stream_app.worker.compute.CHILD", "stream_app.no_such_module")
        with pytest.raises(ComputeFailed, match="can't compute"):
            await compute(course([1]))


async def test_a_new_child_has_the_models_in_use_whatever_has_become_of_their_files(compute, path):
    await loaded(compute, path)
    (before,) = await compute(course([1]))
    path.write_bytes(b"no model")
    os.kill(compute.pid, signal.SIGKILL)
    (after,) = await compute(course([1]))
    assert after.score == before.score


async def test_models_that_can_not_be_loaded_in_time_are_refused_and_the_ones_in_use_go_on(path, tmp_path):
    async with started(path, model_timeout_s=4.0) as (compute, _):
        endless = tiny_model(tmp_path / "endless.onnx", endless_from=-1e9)
        digest = hashlib.sha256(endless.read_bytes()).hexdigest()
        router = load_champions((Route(model=str(path)),)).router
        with pytest.raises(ModelError, match="took more than 4 s"):
            await compute.load(router, {str(path): (str(endless), digest)})
        (answer,) = await compute(course([1]))
        assert 0 < answer.score < 1


@pytest.mark.parametrize("number", [None, signal.SIGSTOP], ids=["idle", "stopped"])
async def test_stopping_ends_it(path, number):
    compute = ComputeProcess((Route(model=str(path)),), "warning")
    compute.start()
    await loaded(compute, path)
    pid = compute.pid
    assert pid is not None
    if number is not None:
        os.kill(pid, number)
    compute.stop()
    await gone(pid)


PARENT = """
import asyncio, sys, time
from stream_app.worker.compute import ComputeProcess
from stream_app.worker.champions import load_champions
from tests.models import course
from whirr.settings import Route
async def main(path):
    routes = (Route(model=path),)
    compute = ComputeProcess(routes, "warning", timeout_s=600)
    compute.start()
    champions = load_champions(routes)
    await compute.load(champions.router, champions.files)
    print(compute.pid, flush=True)
    await compute(course([10]))  # never ends
asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child in a loop looks once a second, if it can")
@pytest.mark.parametrize("number", [None, signal.SIGSTOP], ids=["computing", "stopped"])
async def test_the_child_ends_with_its_parent_whatever_it_does(path, number):
    tiny_model(path, endless_from=3.0)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    if number is not None:
        os.kill(pid, number)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await gone(pid)


def lineup_beside(
    path: Path, folder: Path, *, before: float | None = None, challenger: float | None = None, **how: Any
) -> tuple[Champions, Beside]:
    """The model at ``path`` as champion since half an hour after the start, with others scaled by so much beside it."""
    key, files = str(path), {}
    for name, number, scale in (("before", 2, before), ("challenger", 3, challenger)):
        if scale is not None:
            metadata = replace(tiny_metadata(), version=name)
            given = {"scale": scale, **(how if name == "challenger" else {})}
            file = tiny_model(folder / f"{name}.onnx", metadata, **given)
            files[f"models:/tiny/{number}"] = ModelFile(str(file), hashlib.sha256(file.read_bytes()).hexdigest())
    older = () if before is None else ((0, "models:/tiny/2"),)
    plan = ServingPlan((*older, (START_US + HOUR_US // 2, key)), None if challenger is None else "models:/tiny/3")
    beside = Beside({key: plan}, files)
    own = load_champions((Route(model=key),))
    others = {address: load_model(file.path)[0] for address, file in files.items()}
    router = Router.from_routes((Route(model=key),), beside.lineups(own.router.models, others))
    return Champions(router, own.files, beside), beside


async def loaded_with(compute: ComputeProcess, path: Path, folder: Path, **how: Any) -> Any:
    champions, beside = lineup_beside(path, folder, **how)
    await compute.load(champions.router, champions.files, beside)
    return Engine(champions.router)


@asynccontextmanager
async def started(path: Path, **options: Any):
    """A computing process that has the model, and an engine that has it too."""
    compute = ComputeProcess((Route(model=str(path)),), "warning", **options)
    compute.start()
    try:
        yield compute, await loaded(compute, path)
    finally:
        await asyncio.to_thread(compute.stop)


async def gone(pid: int) -> None:
    await eventually_async(lambda: not is_running(pid), 20)


async def test_models_of_single_machines_are_read_by_the_child_and_again_by_the_next_one(tmp_path):
    template = "models:/whirr.{machine}@champion"
    routes = (Route(model=template),)
    files = {f"models:/whirr.pump-{i}@champion": tiny_model(tmp_path / f"{i}.onnx", scale=float(i)) for i in (1, 2)}
    found = {address: load_model(str(path)) for address, path in files.items()}
    router = Router.from_routes(routes, {address: model for address, (model, _) in found.items()})
    process = ComputeProcess(routes, "warning")
    process.start()
    try:
        records = [*course([1], "pump-1"), *course([1], "pump-2"), *course([1], "pump-3")]
        await process.load(router, {address: (str(files[address]), digest) for address, (_, digest) in found.items()})
        one, two, none = await process(records)
        assert two.score == pytest.approx(2 * one.score)
        assert (none.score, none.routed.learning, none.band_error.size) == (0.0, True, 0)
        with pytest.raises(ModelError, match="changes while it is being read"):
            await process.load(router, {"models:/whirr.pump-1@champion": (str(tmp_path / "1.onnx"), "0" * 64)})
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        again = await process(records)
        assert [answer.score for answer in again] == [one.score, two.score, 0.0]
        assert [answer.statistics.tolist() for answer in again] == [
            answer.statistics.tolist() for answer in (one, two, none)
        ]
    finally:
        process.stop()


async def test_models_of_single_machines_come_when_frames_do_and_go_when_there_is_no_room(tmp_path):
    template = "models:/whirr.{machine}@champion"
    routes = (Route(model=template),)
    scales = {f"pump-{i}": 1.0 + i for i in range(4)}
    files = {
        f"models:/whirr.{name}@champion": tiny_model(tmp_path / f"{name}.onnx", scale=scale)
        for name, scale in scales.items()
    }
    found = {address: load_model(str(path)) for address, path in files.items()}
    router = Router.from_routes(routes, {address: model for address, (model, _) in found.items()})
    room = round(2.5 * max(model.n_bytes for model, _ in found.values()))
    process = ComputeProcess(routes, "warning", max_model_bytes=room)
    told = []
    process.on_resident = told.append
    process.start()
    try:
        await process.load(router, {address: (str(files[address]), digest) for address, (_, digest) in found.items()})
        frames = {name: course([1], name) for name in scales}
        engine = Engine(router)
        expected = {name: engine.compute(frames[name])[0].score for name in scales}
        # One after the other; then the newest again; then the oldest, which has gone; then all at once.
        for name in ("pump-0", "pump-1", "pump-2", "pump-2", "pump-0"):
            assert (await process(frames[name]))[0].score == expected[name]
        assert [(one.models, one.loaded, one.evicted) for one in told] == [
            (1, 1, 0), (2, 2, 0), (2, 3, 1), (2, 3, 1), (2, 4, 2),
        ]  # fmt: skip
        together = await process([frame for name in scales for frame in frames[name]])
        assert [one.score for one in together] == list(expected.values())
        assert told[-1].n_bytes <= room
        # A frame is neither lost nor scored by another model where a file has gone: the worker ends.
        files["models:/whirr.pump-0@champion"].unlink()
        with pytest.raises(ComputeFailed, match=r"pump-0.*can't be read"):
            await process(frames["pump-0"])
    finally:
        process.stop()


async def test_models_of_one_architecture_answer_as_each_alone_does_whatever_was_loaded(tmp_path):
    """The worker scores them together and within a bound; a backtest has a session for each."""
    routes = (Route(model="models:/whirr.{machine}@champion"),)
    files = {f"models:/whirr.pump-{at}@champion": saved(tmp_path / f"{at}.onnx", at) for at in range(5)}
    found = {address: load_model(str(path)) for address, path in files.items()}
    router = Router.from_routes(routes, {address: model for address, (model, _) in found.items()})
    process = ComputeProcess(routes, "warning", max_model_bytes=250_000)  # room for two
    told = []
    process.on_resident = told.append
    process.start()
    try:
        await process.load(router, {address: (str(files[address]), digest) for address, (_, digest) in found.items()})
        records = [
            record(encoded(noise(rms=0.01 * (1 + at), seed=at)), f"pump-{at % 5}", START_US + at * 1_000_000)
            for at in range(20)
        ]
        expected = [(one.score, one.band_error.tobytes()) for one in Engine(router).compute(records)]
        assert len(set(expected)) == 20
        for size in (20, 7, 3):
            answers = [one for at in range(0, 20, size) for one in await process(records[at : at + size])]
            assert [(one.score, one.band_error.tobytes()) for one in answers] == expected
        assert told[-1].evicted > 0
    finally:
        process.stop()


async def test_a_model_that_can_not_be_computed_after_all_costs_its_own_machine_alone(tmp_path):
    routes = (Route(model="models:/whirr.{machine}@champion"),)
    good = tiny_model(tmp_path / "good.onnx")
    odd = tiny_model(tmp_path / "odd.onnx", nan_from=-1e9)
    whole = load_model(str(good))[0]
    models = {"pump-1": (good, whole), "pump-2": (odd, Model.described(whole.metadata_json(), odd, sha256(odd)))}
    files = {f"models:/whirr.{name}@champion": (str(path), model.digest) for name, (path, model) in models.items()}
    router = Router.from_routes(routes, {f"models:/whirr.{name}@champion": one for name, (_, one) in models.items()})
    process = ComputeProcess(routes, "critical")
    process.start()
    try:
        await process.load(router, files)
        pid = process.pid
        for _ in range(2):
            records = [*course([1], "pump-1"), *course([1], "pump-2"), *course([1], "pump-1")]
            scored, letter, again = await process(records)
            assert scored.score == again.score > 0
            assert isinstance(letter, DeadLetter)
            assert letter.code == "processing_failed"
            assert "odd.onnx' scores silence as nan" in letter.detail
        assert process.pid == pid
    finally:
        process.stop()


async def test_of_two_machines_with_equal_files_one_can_have_another_model(tmp_path):
    """The old copy of the one goes; that of the other is there."""
    routes = (Route(model="models:/whirr.{machine}@champion"),)
    old, twin = (tiny_model(tmp_path / f"{name}.onnx") for name in ("old", "twin"))
    new = tiny_model(tmp_path / "new.onnx", scale=2.0)
    assert sha256(old) == sha256(twin)
    process = ComputeProcess(routes, "warning", max_model_bytes=1)
    process.start()
    try:
        scores = []
        for first in (old, new):
            paths = {"models:/whirr.pump-1@champion": first, "models:/whirr.pump-2@champion": twin}
            found = {address: load_model(str(path)) for address, path in paths.items()}
            router = Router.from_routes(routes, {address: model for address, (model, _) in found.items()})
            await process.load(router, {key: (str(paths[key]), digest) for key, (_, digest) in found.items()})
            if first is new:
                old.unlink()
            scores.append([one.score for one in await process([*course([1], "pump-1"), *course([1], "pump-2")])])
        (before, same), (after, other) = scores
        assert before == same == other
        assert after == pytest.approx(2 * before)
    finally:
        process.stop()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
