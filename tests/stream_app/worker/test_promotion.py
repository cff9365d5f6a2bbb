"""A promotion while frames flow, and a restart: every frame is judged as a backtest with the same champions does it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from schemas import Alert, FrameRecord, Score
from schemas.champion_tags import terms
from stream_app.pipeline import Champion, Lineup, Model, backtest
from tests.helpers import KafkaUnderTest, eventually_async
from tests.models import SECOND_US, course, sent_now
from tests.registered_models import register
from tests.stream_app.worker.worker_process import WorkerProcess
from trainer.registry import Registry

ADDRESS = "models:/tiny@champion"
LOUD = [1.0] * 2 + [10.0] * 6


async def test_live_is_as_a_backtest_across_a_promotion(kafka: KafkaUnderTest, tmp_path: Path) -> None:
    settings = kafka.settings(
        route=({"match": "*", "model": ADDRESS, "silent_after_s": 3600.0},),
        model_poll_s=0.2,
        mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
    )
    desk = Registry(settings)
    one = Model.load(register(settings, tmp_path, "tiny", "one")[1])
    now_us = time.time_ns() // 1000
    parts: list[list[FrameRecord]] = []

    async def send(*frames: FrameRecord) -> None:
        parts.append(list(frames))
        await kafka.produce(settings.frames_topic, sent_now(frames))
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == to_come(), 60)

    def to_come() -> int:
        return sum(map(len, parts[restarted_after:]))

    restarted_after = 0
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        # An incident opens, and a deaf model becomes its challenger.
        await send(*course(LOUD, start_us=now_us - 100 * SECOND_US))
        two = Model.load(register(settings, tmp_path, "tiny", "two", scale=0.1)[1])
        await eventually_async(lambda: worker.metric("whirr_shadow_models") == 1, 30)
        await send(*course(LOUD, start_us=now_us - 50 * SECOND_US))
        promoted = desk.promote("tiny").champion
        from_us = terms(promoted.version, promoted.tags)[0].from_us
        assert from_us is not None
        await eventually_async(lambda: worker.metric("whirr_shadow_models") == 0, 30)
        # The worker has the new champion, whose time has not come.
        await send(*course(LOUD, start_us=from_us - 8 * SECOND_US))
        assert worker.stop() == 0, worker.log
    restarted_after = len(parts)
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        late = course(LOUD, "pump-2", start_us=from_us - 4 * SECOND_US)  # four of them before, from a spool
        await send(*course([10.0] * 6, start_us=from_us), *late)
        assert worker.stop() == 0, worker.log
    champions = Lineup((Champion(0, one), Champion(from_us, two)))
    frames = [frame for part in parts for frame in part]
    expected = list(backtest(frames, {ADDRESS: champions}, settings.route))
    live = [json.loads(record.value) for record in await kafka.drain(settings.scores_topic)]
    assert _scores(score for score in live if not score["shadow"]) == _scores(_as_json(expected, Score))
    alerts = [json.loads(record.value) for record in await kafka.drain(settings.alerts_topic)]
    assert _alerts(alerts) == _alerts(_as_json(expected, Alert))
    assert [alert["state"] for alert in alerts if alert["machine_id"] == "pump-1"] == ["opened", "closed"]
    assert {score["model"]["version"] for score in live if score["machine_id"] == "pump-2"} == {"one", "two"}
    in_shadow = backtest(frames[:16], {ADDRESS: Lineup((Champion(0, one),), two)}, settings.route)
    shadows = [score for score in _as_json(in_shadow, Score) if score["shadow"]]
    assert _scores(score for score in live if score["shadow"]) == _scores(shadows[8:])


def _as_json(answers: Iterable[Any], kind: type) -> list[dict[str, Any]]:
    import orjson

    return [orjson.loads(orjson.dumps(answer)) for answer in answers if isinstance(answer, kind)]


def _scores(scores: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("frame_id", "score", "threshold", "status", "shadow")
    return sorted((*(score[name] for name in names), score["model"]["version"]) for score in scores)


def _alerts(alerts: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("alert_id", "incident_id", "state", "severity", "score")
    return sorted((*(alert[name] for name in names), alert["model"]["version"]) for alert in alerts)
