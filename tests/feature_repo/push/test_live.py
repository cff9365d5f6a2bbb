"""Frames through broker and worker, read back from the online store by Feast's own call."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from feature_repo import fields
from schemas import DeadLetter, FrameRecord
from stream_app.pipeline import Engine, Model, Router, StreamState
from stream_app.worker.feature_row import feature_row
from stream_app.worker.states import state_key
from tests.feature_stores import StoreUnderTest, a_store
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import course, plant, sent_now, tiny_model
from tests.stream_app.worker.worker_process import WorkerProcess
from tests.tcp_proxy import Proxy
from whirr.settings import Route, Settings

pytestmark = [pytest.mark.timeout(400)]
DEADLINE_S = 120.0  # the process that pushes imports Feast with what time the others leave


@pytest.fixture
def route(tmp_path: Path) -> Route:
    return Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")))


def expected_rows(frames: Sequence[FrameRecord], route: Route) -> dict[str, dict[str, Any]]:
    """Return what the core's own rolling statistics say of each machine after all frames."""
    router = Router.from_routes([route], {route.model: Model.load(route.model)})
    engine = Engine(router)
    states: dict[tuple[str, str], StreamState] = {}
    for answer in engine.compute(frames):
        assert not isinstance(answer, DeadLetter)
        outcome = engine.advance(answer, states.get(answer.frame.stream), 0)
        states[answer.frame.stream] = outcome.state or states[answer.frame.stream]
    rows = [feature_row(state_key(stream), state, router.find(stream[0])) for stream, state in states.items()]
    names = [field.name for field in fields.FIELDS]
    return {row.machine_id: dict(zip(names, row.values, strict=True)) for row in rows}


def settings_for(kafka: KafkaUnderTest, store: StoreUnderTest, route: Route) -> Settings:
    given = store.settings
    return kafka.settings(
        route=(route,),
        feature_push=True,
        feature_repo=given.feature_repo,
        feature_store_yaml=given.feature_store_yaml,
        feature_push_interval_s=0.2,
    )


def crash(worker: WorkerProcess) -> None:
    """Kill it and its children, as a crash of the machine would; the one that pushes would write what it holds."""
    children = psutil.Process(worker.process.pid).children(recursive=True)
    for process in (worker.process, *children):
        process.kill()
    psutil.wait_procs(children, timeout=10)


def in_store(store: StoreUnderTest, expected: dict[str, dict[str, Any]]) -> bool:
    found = store.read(*expected)
    return all(
        {name: one[name] for name in values} == values for one, values in zip(found, expected.values(), strict=True)
    )


async def test_the_online_store_has_what_the_core_says_also_after_a_crash(
    kafka: KafkaUnderTest, tmp_path: Path, route: Route, monkeypatch: pytest.MonkeyPatch
):
    frames = plant(machines=4)
    expected = expected_rows(frames, route)
    assert {values["alert_state"] for values in expected.values()} == {"normal"}
    with a_store("sqlite", tmp_path / "repo", monkeypatch) as store:
        settings = settings_for(kafka, store, route)
        with WorkerProcess(settings, tmp_path) as worker:
            worker.wait_until_ready()
            await kafka.produce(settings.frames_topic, sent_now(frames))
            await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == len(frames), 60)
            crash(worker)
        with sqlite3.connect(store.repo / "data" / "online.db") as database:  # had it pushed already: let that be lost
            for view in fields.VIEWS:
                database.execute(f"delete from whirr_{view}")
        with WorkerProcess(settings, tmp_path) as worker:
            worker.wait_until_ready()
            await eventually_async(lambda: in_store(store, expected), DEADLINE_S, "all machines are in the store")
            pushed = partial(worker.metric, "whirr_feature_rows_total", outcome="pushed")
            await eventually_async(lambda: pushed() >= len(expected), 30, "the push is counted")
            await eventually_async(lambda: worker.metric("whirr_feature_pending_machines") == 0, 30)
            more = course([10.0] * 8, "pump-1", "mic", start_us=_after(frames))
            await kafka.produce(settings.frames_topic, sent_now(more))
            again = expected_rows([*frames, *more], route)
            assert again["pump-1"]["alert_state"] in {"warning", "critical"}
            await eventually_async(lambda: in_store(store, again), DEADLINE_S, "the newest values are in the store")
            assert worker.stop() == 0, worker.log
        assert "Traceback" not in worker.log


def _after(frames: Sequence[FrameRecord]) -> int:
    from schemas import parse_frame

    return max(parse_frame(frame).recorded_us for frame in frames) + 1_000_000


@pytest.mark.real_services
async def test_scoring_goes_on_while_the_store_hangs_and_the_store_catches_up(
    kafka: KafkaUnderTest, tmp_path: Path, route: Route, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    if not kafka.embedded:
        pytest.skip("the broker makes no difference")
    frames = plant(machines=5)
    half = len(frames) // 2
    server = urlsplit(redis_url)
    with (
        Proxy((server.hostname or "", server.port or 0)) as proxy,
        a_store("redis", tmp_path / "repo", monkeypatch, f"redis://127.0.0.1:{proxy.port}") as store,
    ):
        settings = settings_for(kafka, store, route)
        with WorkerProcess(settings, tmp_path) as worker:
            worker.wait_until_ready()
            await kafka.produce(settings.frames_topic, sent_now(frames[:half]))
            await eventually_async(
                lambda: worker.metric("whirr_feature_rows_total", outcome="pushed") >= 5, DEADLINE_S, "it pushes"
            )
            proxy.open.clear()
            await kafka.produce(settings.frames_topic, sent_now(frames[half:]))
            await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == len(frames), 60)
            await eventually_async(lambda: worker.metric("whirr_feature_push_failures_total") >= 1, DEADLINE_S)
            await eventually_async(
                lambda: worker.metric("whirr_feature_pending_machines") == 5, DEADLINE_S, "all machines wait"
            )
            assert worker.readiness()["ready"]
            proxy.open.set()
            expected = expected_rows(frames, route)
            await eventually_async(lambda: in_store(store, expected), DEADLINE_S, "the store has caught up")
            assert worker.stop() == 0, worker.log
        assert worker.log.count("can't be used") == 1
        assert worker.log.count("can be used again") == 1
        assert "Traceback" not in worker.log
