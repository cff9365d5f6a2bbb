"""The worker as a whole, on a real broker: live equals the oracle, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from schemas import Alert, FrameRecord, parse_frame
from stream_app.pipeline import Model, backtest
from tests.helpers import KafkaUnderTest, eventually, eventually_async
from tests.models import course, encoded, noise, tiny_metadata, tiny_model
from tests.stream_app.worker_process import WorkerProcess
from whirr import process
from whirr.broker import EmbeddedBroker
from whirr.settings import Route, Settings

MACHINES = 6
LEVELS = [1.0] * 8 + [10.0] * 8 + [40.0] * 4 + [1.0] * 12


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny.onnx")


@pytest.fixture
def route(model: Path) -> Route:
    return Route(match="*", model=str(model))


def plant(machines: int = MACHINES, levels: Sequence[float] = LEVELS) -> list[FrameRecord]:
    """Frames of several machines, interleaved; every other machine stays normal."""
    courses = [course(levels if i % 2 else [1.0] * len(levels), f"pump-{i}", "mic") for i in range(machines)]
    return [frame for together in zip(*courses, strict=True) for frame in together]


def sent_now(frames: Iterable[FrameRecord]) -> list[FrameRecord]:
    """The same frames with records of today: the recording times are old enough for Kafka to delete the records."""
    return [replace(frame, timestamp_ms=0) for frame in frames]


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
    assert worker.metric("whirr_sequence_gaps_total") == 0


async def test_a_killed_worker_is_replaced_and_nothing_is_lost(
    kafka: KafkaUnderTest, tmp_path: Path, route: Route
) -> None:
    frames = plant(machines=12)
    settings = kafka.settings(route=(route,), batch_frames=8, session_timeout_s=6.0)
    half = len(frames) // 2
    with WorkerProcess(settings, tmp_path) as first:
        first.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames[:half]))
        await eventually_async(lambda: first.metric("whirr_frames_total", outcome="scored") > half // 4, 60)
        first.process.kill()
        first.wait()
    await kafka.produce(settings.frames_topic, sent_now(frames[half:]))
    with WorkerProcess(settings, tmp_path) as second:
        second.wait_until_ready()
        wanted = {parse_frame(frame).frame_id for frame in frames}
        await kafka.consume(settings.scores_topic, lambda found: scored_ids(found).keys() >= wanted, 60)
        assert second.stop() == 0, second.log
    assert alert_set(await kafka.drain(settings.alerts_topic)) == expected_alerts(frames, route)
    assert scored_ids(await kafka.drain(settings.scores_topic)).keys() == wanted


async def test_a_second_worker_takes_over_partitions_with_their_states(
    kafka: KafkaUnderTest, tmp_path: Path, route: Route
) -> None:
    frames = plant(machines=12)
    settings = kafka.settings(route=(route,), batch_frames=8)
    third = len(frames) // 3
    with WorkerProcess(settings, tmp_path) as first, WorkerProcess(settings, tmp_path) as second:
        first.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames[:third]))

        def shared() -> bool:
            taken = [set(worker.readiness().get("partitions", [])) for worker in (first, second)]
            ready = first.get("/ready")[0] == second.get("/ready")[0] == 200
            return ready and all(taken) and not taken[0] & taken[1] and taken[0] | taken[1] == {0, 1, 2, 3}

        await eventually_async(shared, 60)
        await kafka.produce(settings.frames_topic, sent_now(frames[third : 2 * third]))
        assert first.stop() == 0, first.log
        await kafka.produce(settings.frames_topic, sent_now(frames[2 * third :]))
        wanted = {parse_frame(frame).frame_id for frame in frames}
        await kafka.consume(settings.scores_topic, lambda found: scored_ids(found).keys() >= wanted, 60)
        assert second.stop() == 0, second.log
    assert alert_set(await kafka.drain(settings.alerts_topic)) == expected_alerts(frames, route)


async def test_a_worker_that_wakes_from_a_long_pause_does_no_harm(
    kafka: KafkaUnderTest, tmp_path: Path, route: Route
) -> None:
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


async def test_a_new_model_is_swapped_in_and_a_bad_one_refused(
    kafka: KafkaUnderTest, tmp_path: Path, model: Path, route: Route
) -> None:
    settings = kafka.settings(route=(route,), model_poll_s=0.1)
    frames = course([1.0] * 30)

    async def versions(expected: Sequence[str]) -> None:
        def enough(found: Sequence[ConsumerRecord]) -> bool:
            return len(found) >= len(expected)

        found = await kafka.consume(settings.scores_topic, enough)
        assert [json.loads(record.value)["model"]["version"] for record in found] == list(expected)

    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames[:2]))
        await versions("11")
        tiny_model(tmp_path / "next.onnx", replace(tiny_metadata(), version="2")).replace(model)
        await eventually_async(lambda: worker.metric("whirr_model_info", name="tiny", route="*", version="2") == 1)
        await kafka.produce(settings.frames_topic, sent_now(frames[2:4]))
        await versions("1122")
        (tmp_path / "bad.onnx").write_bytes(b"no model")
        (tmp_path / "bad.onnx").replace(model)
        await eventually_async(lambda: worker.metric("whirr_model_refused_total") == 1)
        await kafka.produce(settings.frames_topic, sent_now(frames[4:6]))
        await versions("112222")
        assert worker.metric("whirr_model_info", name="tiny", route="*", version="1") == 0
        assert worker.stop() == 0, worker.log


async def test_a_silent_machine_is_told_and_heard_again(kafka: KafkaUnderTest, tmp_path: Path, model: Path) -> None:
    route = Route(match="*", model=str(model), silent_after_s=1.0)
    settings = kafka.settings(route=(route,))
    frames = course([1.0] * 2)
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await kafka.produce(settings.frames_topic, sent_now(frames[:1]))
        (opened,) = [json.loads(record.value) for record in await kafka.consume(settings.alerts_topic, 1)]
        assert (opened["kind"], opened["sensor_fault"], opened["state"]) == ("sensor", "silent", "opened")
        await kafka.produce(settings.frames_topic, sent_now(frames[1:]))
        closed = [json.loads(record.value) for record in await kafka.consume(settings.alerts_topic, 2)][1]
        assert (closed["state"], closed["incident_id"]) == ("closed", opened["alert_id"])
        assert worker.stop() == 0, worker.log


async def test_kafka_that_comes_late_is_waited_for(tmp_path: Path, route: Route, monkeypatch: object) -> None:
    port = process.free_port()
    settings = _settings(f"127.0.0.1:{port}", tmp_path, route)
    with WorkerProcess(settings, tmp_path) as worker:
        eventually(lambda: "can't be reached" in worker.log, 30)
        assert "Traceback" not in worker.log
        assert worker.get("/ready")[0] != 200
        with EmbeddedBroker(port):
            worker.wait_until_ready()
            assert worker.log.count("can't be reached") == 1
            assert worker.stop() == 0, worker.log


def _settings(bootstrap: str, folder: Path, *routes: Route) -> Settings:
    return Settings(kafka_bootstrap_servers=bootstrap, kafka_embedded=True, route=routes, worker_dir=folder / "worker")


def test_it_can_be_stopped_while_it_waits_for_kafka(tmp_path: Path, route: Route) -> None:
    with WorkerProcess(_settings(f"127.0.0.1:{process.free_port()}", tmp_path, route), tmp_path) as worker:
        eventually(lambda: "can't be reached" in worker.log, 30)
        assert worker.stop() == 0, worker.log


@pytest.mark.parametrize("content", [None, b"no model"])
def test_a_model_that_cannot_be_used_ends_it_with_exit_code_2(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with WorkerProcess(_settings("127.0.0.1:1", tmp_path), tmp_path, "--model", str(path)) as worker:
        assert worker.wait(60) == 2
        assert str(path) in worker.log
        assert "Traceback" not in worker.log


def test_without_routes_it_says_what_to_write(tmp_path: Path) -> None:
    with WorkerProcess(_settings("127.0.0.1:1", tmp_path), tmp_path) as worker:
        assert worker.wait(60) == 2
        assert "[[route]]" in worker.log


def test_mode_every_alerts_on_each_anomalous_frame(tmp_path: Path, model: Path) -> None:
    with EmbeddedBroker() as broker:
        kafka = KafkaUnderTest(broker.bootstrap, True, "embedded", tmp_path)
        settings = kafka.settings()
        with WorkerProcess(settings, tmp_path, "--model", str(model), "--mode", "every") as worker:
            worker.wait_until_ready()
            asyncio.run(kafka.produce(settings.frames_topic, sent_now(course([1.0, 10.0, 1.0, 10.0]))))
            eventually(lambda: worker.metric("whirr_alerts_total", kind="machine", state="anomalous") == 2)
            assert worker.stop() == 0, worker.log


def test_encoded_noise_is_what_the_tiny_model_calls_normal(model: Path) -> None:
    """The courses above rest on it."""
    frames = [replace(frame, value=encoded(noise(seed=i))) for i, frame in enumerate(course([1.0] * 3))]
    assert expected_alerts(frames, Route(model=str(model), mode="every")) == set()
