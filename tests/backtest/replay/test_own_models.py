"""Replays by routes whose machines have a model each: those without one are learning."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.replay.replay_options import ReplayConfig
from backtest.replay.routing import identity, load, routes_of
from backtest.replay.run import ReplayObserver, replay
from commands._replay import notes
from stream_app.worker.champions import Champions
from tests.backtest.replay.results import alerts, scores
from tests.registered_models import register
from whirr.settings import Route, Settings, load_settings

TEMPLATE = "models:/whirr.{machine}@champion"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings with a registry of their own, in which fan-1 has a model."""
    found = load_settings(
        mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        worker_dir=tmp_path / "worker",
        route=({"match": "*", "model": TEMPLATE},),
    )
    register(found, tmp_path, "whirr.fan-1")
    return found


def test_machines_with_a_model_are_judged_by_it_and_the_others_are_learning(
    folder: Path, tmp_path: Path, settings: Settings, champions: Champions
):
    own = load(settings.route, settings)
    summary = replay(ReplayConfig(folder=folder, out=tmp_path / "out"), own, ReplayObserver())
    replay(ReplayConfig(folder=folder, out=tmp_path / "one"), champions, ReplayObserver())

    def told(out: str, machine: str) -> list[tuple]:
        rows = [row for row in scores(tmp_path / out) if row["machine_id"] == machine]
        return [(row["frame_id"], row["score"], row["status"], row["idle_reason"]) for row in rows]

    def alarms(out: str, machine: str) -> list[tuple]:
        found = [alert for alert in alerts(tmp_path / out) if alert["machine_id"] == machine]
        return [(alert["alert_id"], alert["state"]) for alert in found]

    assert told("out", "fan-1") == told("one", "fan-1")
    assert alarms("out", "fan-1") == alarms("one", "fan-1") != []
    assert {row[1:] for row in told("out", "pump-2")} == {(0.0, "idle", "learning")}
    assert alarms("out", "pump-2") == []
    learning = len(told("out", "pump-2"))
    assert (summary["learning"], summary["machines"]["fan-1"]["learning"]) == (learning, 0)
    assert summary["machines"]["pump-2"]["auc"] is None
    assert summary["machines"]["fan-1"]["auc"] == 1.0
    assert any(f"{learning} frames are of machines that are learning (pump-2)" in note for note in notes(summary))
    (route,) = summary["routes"]
    assert (route["name"], route["version"], list(route["machines"])) == (
        "whirr.{machine}",
        "none",
        ["models:/whirr.fan-1@champion"],
    )


def test_a_new_model_makes_what_was_scored_another_replays(settings: Settings, tmp_path: Path):
    before = identity(load(settings.route, settings))
    assert identity(load(settings.route, settings)) == before
    register(settings, tmp_path, "whirr.pump-2")
    assert identity(load(settings.route, settings)) != before


def test_an_alias_stands_for_each_machines_own():
    settings = Settings(route=(Route(model=TEMPLATE),))
    (route,) = routes_of(settings, "challenger", use_routes=True)
    assert route.model == "models:/whirr.{machine}@challenger"
