"""The worker's side: which stream a machine shows, what is handed over, and what happens when the other side goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from feature_repo.fields import HEALTH_FIELDS
from feature_repo.push.push_metrics import PushMetrics
from feature_repo.push.pusher import Report
from feature_repo.rows import FeatureRow
from stream_app.pipeline import Model, Router, StreamState
from stream_app.worker import feature_push
from stream_app.worker.feature_push import FeaturePush
from stream_app.worker.feature_row import feature_row
from stream_app.worker.states import StreamStates, state_key
from tests.helpers import eventually_async
from tests.models import tiny_model
from whirr.settings import Route, Settings


class FakeLink:
    """Keeps what it is sent; a test answers."""

    made: list[FakeLink]

    def __init__(self, settings: Settings, on_answer: Callable[[str, Any], None]) -> None:
        self.on_answer = on_answer
        self.sent: list[tuple[str, list[FeatureRow], list[FeatureRow]]] = []
        self.busy = self.used = self.gone = self.closed = False
        self.unanswered_s = 0.0
        self.made.append(self)

    async def send(self, message: Callable[[], Any]) -> None:
        if self.gone:
            raise OSError("exit code 1")
        self.used = True
        self.sent.append(message())

    async def drain(self, message: Callable[[], Any]) -> None:
        await self.send(message)

    async def close(self) -> None:
        self.closed = True


# Waiting takes no time here, and ends when all tasks wait.
pytestmark = pytest.mark.usefixtures("virtual_time")


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[FakeLink]:
    FakeLink.made = []
    monkeypatch.setattr(feature_push, "PushProcess", FakeLink)
    monkeypatch.setattr(feature_push, "_BACKOFF_S", (0.01, 0.01))
    return FakeLink.made


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    path = str(tiny_model(tmp_path_factory.mktemp("models") / "tiny.onnx"))
    return Router.from_routes([Route(match="pump-*", model=path)], {path: Model.load(path)})


@pytest.fixture
def states() -> StreamStates:
    return StreamStates()


@pytest.fixture
def push(states: StreamStates, router: Router, links: list[FakeLink]) -> FeaturePush:
    settings = Settings(feature_push_interval_s=0.01, feature_repo=Path("nowhere"))
    found = FeaturePush(settings, states, lambda: router, PushMetrics(CollectorRegistry()))
    states.on_put = found.offer
    return found


@asynccontextmanager
async def running(push: FeaturePush) -> AsyncIterator[None]:
    task = asyncio.create_task(push.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def state(second: int, frames: int = 1) -> StreamState:
    return StreamState(newest_us=second * 1_000_000, frames=frames, frame_id=f"{second:032x}", running_since_us=0)


def key(machine: str = "pump-1", source: str = "") -> bytes:
    return state_key((machine, source))


async def test_a_machine_with_several_sensors_shows_its_newest_stream(
    push: FeaturePush, states: StreamStates, links: list[FakeLink]
):
    states.put(0, key(source="left"), state(5))
    states.put(0, key(source="right"), state(4))  # older
    states.put(0, key("pump-2", "right"), state(6))
    states.put(0, key("pump-2", "left"), state(6))  # of two with the same time the first by name
    states.put(0, key("pump-3", "left"), state(6))
    states.put(0, key("pump-3", "right"), state(6))
    states.put(0, key("fan-1"), state(6))  # no route is its own
    async with running(push):
        await eventually_async(lambda: links and links[0].sent)
    fresh = links[0].sent[0][1]
    assert {(row.machine_id, row.source, row.event_us) for row in fresh} == {
        ("pump-1", "left", 5_000_000),
        ("pump-2", "left", 6_000_000),
        ("pump-3", "left", 6_000_000),
    }
    assert links[0].closed


async def test_what_moves_while_the_other_process_is_busy_replaces_what_waits(
    push: FeaturePush, states: StreamStates, links: list[FakeLink]
):
    async with running(push):
        await eventually_async(lambda: links)
        links[0].busy = True
        for second in range(1, 100):
            states.put(0, key(), state(second))
            await asyncio.sleep(0.001)
        assert links[0].sent == []
        links[0].busy = False
        await eventually_async(lambda: links[0].sent)
    assert [row.event_us for row in links[0].sent[0][1]] == [99_000_000]


async def test_recovered_states_are_offered_as_such(push: FeaturePush, states: StreamStates, links: list[FakeLink]):
    states.restore(0, key(), state(1).to_bytes())
    states.restore(0, key("pump-2"), state(1, frames=0).to_bytes())
    push.offer_all()
    async with running(push):
        await eventually_async(lambda: links and links[0].sent)
        kind, fresh, recovered = links[0].sent[0]
        assert (kind, fresh, [row.machine_id for row in recovered]) == ("rows", [], ["pump-1"])
        links[0].on_answer("report", Report(is_back=True))
        await eventually_async(lambda: len(links[0].sent) == 2)
    assert links[0].sent[1] == links[0].sent[0]


async def test_when_partitions_go_what_has_moved_is_handed_over_and_then_forgotten(
    push: FeaturePush, states: StreamStates, links: list[FakeLink]
):
    async with running(push):
        await eventually_async(lambda: links)
        links[0].busy = True
        states.put(0, key(), state(9))
        links[0].used = True
        await push.drain()
        assert links[0].sent[0][0] == "drain"
        assert [row.event_us for row in links[0].sent[0][1]] == [9_000_000]
        links[0].busy = False
        push.offer(key(), state(3))  # another worker's business meanwhile; it is the newest known here now
        await eventually_async(lambda: len(links[0].sent) == 2)
    assert [row.event_us for row in links[0].sent[1][1]] == [3_000_000]


async def test_a_store_that_does_not_answer_holds_no_rebalance_up(
    push: FeaturePush, states: StreamStates, links: list[FakeLink], monkeypatch: pytest.MonkeyPatch, caplog: Any
):
    monkeypatch.setattr(feature_push, "DRAIN_S", 0.05)
    async with running(push):
        await eventually_async(lambda: links)
        links[0].drain = lambda _: asyncio.Event().wait()  # type: ignore[method-assign, assignment, return-value]
        states.put(0, key(), state(9))
        await push.drain()
    assert "were not written within" in caplog.text


@pytest.mark.parametrize("trouble", ["gone", "hung"])
async def test_another_process_is_started_in_place_of_one_that_has_gone_or_hangs(
    trouble: str, push: FeaturePush, states: StreamStates, links: list[FakeLink], caplog: Any
):
    states.put(0, key(), state(1))
    async with running(push):
        await eventually_async(lambda: links and links[0].sent)
        if trouble == "gone":
            links[0].gone = True
        else:
            links[0].unanswered_s = feature_push.HUNG_S + 1
        states.put(0, key(), replace(state(2)))
        await eventually_async(lambda: len(links) > 1 and links[1].sent)
        assert links[0].closed
    assert [row.event_us for rows in links[1].sent[0][1:] for row in rows] == [2_000_000]
    assert len(caplog.records) == 1


def test_a_row_says_since_when_a_machine_is_learning_and_has_no_score_without_a_model(router: Router) -> None:
    waiting = Router.from_routes([Route(model="models:/whirr.{machine}@champion")], {}).find("pump-1")
    names = [field.name for field in HEALTH_FIELDS]
    learning = replace(state(10), learning_since_us=5_000_000)
    row = dict(zip(names, feature_row(key(), learning, waiting).values[13:], strict=True))
    assert (row["alert_state"], row["learning_since"]) == ("learning", "1970-01-01T00:00:05.000000Z")
    assert (row["score_mean"], row["score_max"], row["threshold_ratio"]) == (None, None, None)
    assert row["model_version"] == "whirr.pump-1/none"
    anew = dict(zip(names, feature_row(key(), learning, router.find("pump-1")).values[13:], strict=True))
    assert (anew["alert_state"], anew["score_mean"], anew["model_version"]) == ("learning", 0.0, "tiny/1")
    judged = dict(zip(names, feature_row(key(), state(10), router.find("pump-1")).values[13:], strict=True))
    assert (judged["alert_state"], judged["learning_since"]) == ("normal", "")
