"""The worker as a whole, on a real broker: live equals the oracle, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from schemas import Alert, FrameRecord, parse_frame
from stream_app.pipeline import Model, backtest
from tests.conftest import LateKafka
from tests.helpers import KafkaUnderTest, eventually, eventually_async
from tests.models import course, encoded, noise, plant, sent_now, tiny_metadata, tiny_model
from tests.stream_app.worker.worker_process import WorkerProcess
from whirr import process
from whirr.settings import Route, Settings

MACHINES = 6


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def route(model: Path) -> Route:
    return Route(match="*", model=str(model))


def expected_alerts(frames: Iterable[FrameRecord], route: Route) -> set[tuple[str, str]]:
    models = {route.model: Model.load(route.model)}
    answers = backtest(frames, models, [route])
    return {(answer.alert_id, answer.state) for answer in answers if isinstance(answer, Alert)}


def alert_set(records: Iterable[ConsumerRecord]) -> set[tuple[str, str]]:
    alerts = [json.loads(record.value) for record in records]
    return {(alert["alert_id"], alert["state"]) for alert in alerts}


def scored_ids(records: Iterable[ConsumerRecord]) -> Counter[str]:
    return Counter(json.loads(record.value)["frame_id"] for record in records)


async def test_live_equals_the_oracle(kafka: KafkaUnderTest, tmp_path: Path, route: Route) -> None:
    frames = plant()
    settings = kafka.settings(route=(route,))
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames))
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == len(frames), 60)
        _look_at_the_pages(worker, len(frames))
        assert worker.stop() == 0, worker.log
    expected = expected_alerts(frames, route)
    assert len(expected) > MACHINES
    alerts = await kafka.drain(settings.alerts_topic)
    assert alert_set(alerts) == expected
    assert len(alerts) == len(expected)
    scores = scored_ids(await kafka.drain(settings.scores_topic))
    assert scores == Counter(parse_frame(frame).frame_id for frame in frames)
    assert await kafka.drain(settings.dead_letter_topic) == []


def _look_at_the_pages(worker: WorkerProcess, frames: int) -> None:
    assert worker.get("/live")[0] == 200
    readiness = worker.readiness()
    assert readiness["ready"]
    assert readiness["partitions"] == [0, 1, 2, 3]
    assert worker.metric("whirr_ready") == 1
    assert worker.metric("whirr_alerts_total", kind="machine", state="opened") == MACHINES / 2
    assert worker.metric("whirr_end_to_end_latency_seconds_count") == frames
    assert worker.metric("whirr_model_info", name="tiny", route="*", version="1") == 1
    assert b"whirr_sequence_gaps_total{" not in worker.get("/metrics")[1]


async def test_workers_come_and_go_and_nothing_is_lost(kafka: KafkaUnderTest, tmp_path: Path, route: Route) -> None:
    """Two share the partitions; one is killed, one told to stop, a third finishes."""
    frames = plant(machines=12)
    settings = kafka.settings(route=(route,), batch_frames=8, session_timeout_s=6.0)
    third = len(frames) // 3
    parts = [frames[:third], frames[third : 2 * third], frames[2 * third :]]
    wanted = {parse_frame(frame).frame_id for frame in frames}
    with ExitStack() as stack:
        first, second = [stack.enter_context(WorkerProcess(settings, tmp_path)) for _ in range(2)]
        await eventually_async(lambda: _shared(first, second), 60, "both have partitions")
        await kafka.produce(settings.frames_topic, sent_now(parts[0]))
        await eventually_async(lambda: first.metric("whirr_frames_total", outcome="scored") > 0, 30)
        first.process.kill()
        await kafka.produce(settings.frames_topic, sent_now(parts[1]))
        third_one = stack.enter_context(WorkerProcess(settings, tmp_path))
        third_one.wait_until_ready()
        assert second.stop() == 0, second.log
        await kafka.produce(settings.frames_topic, sent_now(parts[2]))
        await kafka.consume(settings.scores_topic, lambda found: scored_ids(found).keys() >= wanted, 60)
        assert third_one.stop() == 0, third_one.log
    assert alert_set(await kafka.drain(settings.alerts_topic)) == expected_alerts(frames, route)
    assert scored_ids(await kafka.drain(settings.scores_topic)).keys() == wanted


def _shared(*workers: WorkerProcess) -> bool:
    taken = [worker.readiness().get("partitions", []) for worker in workers]
    ready = all(worker.get("/ready")[0] == 200 for worker in workers)
    return ready and all(taken) and sorted(partition for mine in taken for partition in mine) == [0, 1, 2, 3]


async def test_a_worker_that_wakes_from_a_long_pause_does_no_harm(
    kafka: KafkaUnderTest, tmp_path: Path, route: Route
) -> None:
    if kafka.embedded:
        pytest.skip("takes long, and a group's rules are Apache Kafka's to keep")
    frames = plant(machines=12)
    settings = kafka.settings(route=(route,), batch_frames=8, session_timeout_s=6.0)
    third = len(frames) // 3
    wanted = [{parse_frame(frame).frame_id for frame in frames[:count]} for count in (2 * third, len(frames))]
    with WorkerProcess(settings, tmp_path) as first, WorkerProcess(settings, tmp_path) as second:
        first.wait_until_ready()
        second.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames[:third]))
        await eventually_async(lambda: first.metric("whirr_frames_total", outcome="scored") > 0, 30)
        first.process.send_signal(signal.SIGSTOP)
        await kafka.produce(settings.frames_topic, sent_now(frames[third : 2 * third]))
        await kafka.consume(settings.scores_topic, lambda found: scored_ids(found).keys() >= wanted[0], 60)
        first.process.send_signal(signal.SIGCONT)
        await kafka.produce(settings.frames_topic, sent_now(frames[2 * third :]))
        await kafka.consume(settings.scores_topic, lambda found: scored_ids(found).keys() >= wanted[1], 60)
        assert first.wait_until_ready().stop() == 0, first.log
        assert second.stop() == 0, second.log
    assert alert_set(await kafka.drain(settings.alerts_topic)) == expected_alerts(frames, route)


async def test_models_are_swapped_and_silence_is_told(kafka: KafkaUnderTest, tmp_path: Path, model: Path) -> None:
    route = Route(match="*", model=str(model), silent_after_s=2.0)
    settings = kafka.settings(route=(route,), model_poll_s=0.1)
    frames = course([1.0] * 8)

    async def versions(expected: str) -> None:
        found = await kafka.consume(settings.scores_topic, len(expected))
        assert "".join(json.loads(record.value)["model"]["version"] for record in found) == expected

    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames[:2]))
        await versions("11")
        tiny_model(tmp_path / "next.onnx", replace(tiny_metadata(), version="2")).replace(model)
        # Models are tried in a process that has to start first, on a machine that has much else to do.
        labels = {"name": "tiny", "route": "*", "version": "2"}
        await eventually_async(lambda: worker.metric("whirr_model_info", **labels) == 1, 60.0)
        await kafka.produce(settings.frames_topic, sent_now(frames[2:4]))
        await versions("1122")
        (tmp_path / "bad.onnx").write_bytes(b"no model")
        (tmp_path / "bad.onnx").replace(model)
        await eventually_async(lambda: worker.metric("whirr_model_refused_total") == 1, 60.0)
        await kafka.produce(settings.frames_topic, sent_now(frames[4:6]))
        await versions("112222")
        assert worker.metric("whirr_model_info", name="tiny", route="*", version="1") == 0
        await _look_at_silence(kafka, frames[6:])
        assert worker.stop() == 0, worker.log


async def _look_at_silence(kafka: KafkaUnderTest, frames: Sequence[FrameRecord]) -> None:
    """A pause in the courses above may have been told already: each silence is, and each ends with the next frame."""
    settings = kafka.settings()
    before = len(await kafka.drain(settings.alerts_topic))
    alerts = await kafka.consume(settings.alerts_topic, lambda found: len(found) >= max(before, 1) and _open(found))
    opened = json.loads(alerts[-1].value)
    assert (opened["kind"], opened["sensor_fault"], opened["state"]) == ("sensor", "silent", "opened")
    await kafka.produce(settings.frames_topic, sent_now(frames))
    alerts = await kafka.consume(settings.alerts_topic, lambda found: bool(found) and not _open(found))
    closed = json.loads(alerts[-1].value)
    assert (closed["state"], closed["incident_id"]) == ("closed", opened["alert_id"])


def _open(found: Sequence[ConsumerRecord]) -> bool:
    return bool(found) and json.loads(found[-1].value)["state"] == "opened"


_NEVER_COMMITS = """
from stream_app.worker import app
as_it_is = app._faust_settings
app._faust_settings = lambda *args: {**as_it_is(*args), "broker_commit_interval": 600.0}
"""


async def test_a_worker_whose_commits_stop_exits_and_the_next_one_goes_on(
    kafka: KafkaUnderTest, tmp_path: Path, route: Route
) -> None:
    frames = plant(2, [1.0] * 4 + [10.0] * 4)
    settings = kafka.settings(route=(route,))
    stuck = kafka.settings(
        route=(route,), commit_stall_s=8.0, compute_timeout_s=2.0
    )  # the embedded broker forms a group in 3 s
    with WorkerProcess(stuck, tmp_path, first=_NEVER_COMMITS) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames))
        assert await asyncio.to_thread(worker.wait, 60) == 70, worker.log
        assert "for a commit" in worker.log
        assert "Traceback" not in worker.log
    with WorkerProcess(settings, tmp_path) as worker:  # as its supervisor would
        worker.wait_until_ready()
        assert worker.stop() == 0, worker.log
    scores = scored_ids(await kafka.drain(settings.scores_topic))
    assert set(scores) == {parse_frame(frame).frame_id for frame in frames}
    assert alert_set(await kafka.drain(settings.alerts_topic)) == expected_alerts(frames, route)


async def test_kafka_that_comes_late_is_waited_for(late_kafka: LateKafka, tmp_path: Path, model: Path) -> None:
    """And --model with --mode every alerts on each anomalous frame."""
    settings = _settings(late_kafka.bootstrap, tmp_path)
    with WorkerProcess(settings, tmp_path, "--model", str(model), "--mode", "every") as worker:
        await eventually_async(lambda: "can't be reached" in worker.log, 30)
        assert "Traceback" not in worker.log
        assert worker.get("/ready")[0] != 200
        with late_kafka.started() as kafka:
            worker.wait_until_ready()
            assert worker.log.count("can't be reached") == 1
            await kafka.produce(settings.frames_topic, sent_now(course([1.0, 10.0, 1.0, 10.0])))
            await eventually_async(lambda: worker.metric("whirr_alerts_total", kind="machine", state="anomalous") == 2)
            assert worker.stop() == 0, worker.log


def _settings(bootstrap: str, folder: Path, *routes: Route) -> Settings:
    return Settings(
        kafka_bootstrap_servers=bootstrap,
        route=routes,
        worker_dir=folder / "worker",
        feature_push=False,
    )


@pytest.mark.slow
def test_it_can_be_stopped_while_it_waits_for_kafka(tmp_path: Path, route: Route) -> None:
    with WorkerProcess(_settings(f"127.0.0.1:{process.free_port()}", tmp_path, route), tmp_path) as worker:
        eventually(lambda: "can't be reached" in worker.log, 30)
        assert worker.stop() == 0, worker.log


@pytest.mark.slow
def test_what_cannot_be_served_ends_it_with_exit_code_2(tmp_path: Path) -> None:
    """No route, a model that is missing, one that is none."""
    (tmp_path / "none.onnx").write_bytes(b"no model")
    settings = _settings("127.0.0.1:1", tmp_path)
    expected = {"[[route]]": [], "gone.onnx": ["--model", "gone.onnx"], "none.onnx": ["--model", "none.onnx"]}
    with ExitStack() as stack:
        workers = {
            text: stack.enter_context(WorkerProcess(settings, tmp_path, *args)) for text, args in expected.items()
        }
        for text, worker in workers.items():
            assert worker.wait(60) == 2, worker.log
            assert text in worker.log
            assert "Traceback" not in worker.log


def test_encoded_noise_is_what_the_tiny_model_calls_normal(model: Path) -> None:
    """The courses above rest on it."""
    frames = [replace(frame, value=encoded(noise(seed=i))) for i, frame in enumerate(course([1.0] * 3))]
    assert expected_alerts(frames, Route(model=str(model), mode="every")) == set()
