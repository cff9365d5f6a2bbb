"""One job, from the archive to a version in the registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from archive.archive import Archive
from stream_app.pipeline import Model
from tests.helpers import eventually
from tests.trainer.learning.jobs import EVERY_US, MACHINE, at, heard, job, ordered
from trainer.learning import training
from trainer.learning.drift import DAY_US
from trainer.learning.executor import JobQueue, LocalProcesses
from trainer.learning.learning_tags import parse_learning_tags
from trainer.learning.machine_incidents import Unlearnable
from trainer.learning.spans import Span
from trainer.learning.training import run_job, version_of_job
from trainer.live_days import LOOSEST, LiveDay
from trainer.registry import Registry
from whirr.mlflow_client import TrackingServer
from whirr.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("learning-jobs")]
FRAMES = 48


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A day of a healthy machine."""
    return heard(tmp_path_factory.mktemp("archive"), FRAMES)


def client_of(settings: Settings) -> MlflowClient:
    return MlflowClient(tracking_uri=TrackingServer(settings).uri, registry_uri=TrackingServer(settings).uri)


def file_of(settings: Settings, name: str, version: int, folder: Path) -> Model:
    server = TrackingServer(settings)
    return Model.load(server.download(client_of(settings), name, str(version), "model.onnx", folder))


def test_a_job_ends_in_a_version_that_says_all_of_itself_and_serves_nowhere(
    kept, mlflow_settings, model_name, tmp_path
):
    incident = Unlearnable(Span(at(10), at(20)), "incident")
    order = ordered(job(FRAMES, incident), kept, mlflow_settings, model_name)
    queue = JobQueue(LocalProcesses())
    queue.submit(order)
    (outcome,) = eventually(lambda: queue.poll(0.2), 500, "it ends, in another process")
    assert (outcome.state, outcome.version, outcome.why) == ("registered", 1, "")
    assert (outcome.frames, outcome.left_out) == (FRAMES - 10, {"incident": 10})
    version = Registry(mlflow_settings).version(model_name, "1")
    assert version.aliases == ()
    learnt = parse_learning_tags(version.tags)
    assert learnt is not None
    assert (learnt.job_id, learnt.baseline) == (order.job.job_id, Span(at(0), at(FRAMES)))
    assert learnt.left_out == (incident.span,)
    run = client_of(mlflow_settings).get_run(version.run_id)
    assert run.data.tags["learn_job"] == order.job.job_id
    assert run.data.params["learn.left_out.incident"] == "10"
    assert run.data.params["learn.cause"] == "schedule"
    metadata = file_of(mlflow_settings, model_name, 1, tmp_path).metadata
    assert metadata.name == model_name
    assert metadata.machines == (MACHINE,)
    assert metadata.calibration.every_s == EVERY_US / 1e6
    assert metadata.baselines[MACHINE].recordings == FRAMES - 10
    # The same job again changes nothing.
    again = run_job(order)
    assert (again.state, again.version, again.again) == ("registered", 1, True)
    assert len(Registry(mlflow_settings).versions(model_name)) == 1


def test_what_dies_before_there_is_a_version_leaves_one_run_and_one_version_when_it_is_run_again(
    kept, mlflow_settings, model_name, monkeypatch
):
    def dies(*args: object, **named: object) -> None:
        raise KeyboardInterrupt  # nothing in a job answers this

    order = ordered(job(FRAMES, number=5), kept, mlflow_settings, model_name)
    with monkeypatch.context() as patched:
        patched.setattr("trainer.registration.add_version", dies)
        with pytest.raises(KeyboardInterrupt):
            run_job(order)
    assert run_job(order).version == 1
    client = client_of(mlflow_settings)
    experiment = client.get_experiment_by_name(mlflow_settings.mlflow_experiment)
    runs = client.search_runs([experiment.experiment_id], f"tags.learn_job = '{order.job.job_id}'")
    assert [run.info.run_id for run in runs] == [Registry(mlflow_settings).version(model_name, "1").run_id]


def test_too_little_is_said_and_not_raised(kept, mlflow_settings, model_name):
    outcome = run_job(ordered(job(4), kept, mlflow_settings, model_name))
    assert outcome.state == "impossible"
    assert outcome.why.startswith("too few: 4 different recordings")
    nothing = run_job(ordered(job(FRAMES, Unlearnable(Span(at(-1), None), "fault")), kept, mlflow_settings, model_name))
    assert nothing.state == "impossible"
    assert f"{FRAMES} archived frames of {MACHINE!r}" in nothing.why
    assert f"{FRAMES} fault" in nothing.why


def test_what_nobody_foresaw_is_told_with_its_traceback(kept, mlflow_settings, model_name, monkeypatch):
    monkeypatch.setattr(training, "represent", lambda *args: 1 / 0)
    outcome = run_job(ordered(job(FRAMES), kept, mlflow_settings, model_name))
    assert outcome.state == "failed"
    assert "ZeroDivisionError" in outcome.why
    assert "test_training.py" in outcome.why


def test_a_registry_that_is_away_is_a_failure_to_be_tried_again(kept, model_name):
    away = Settings(mlflow_tracking_uri="http://127.0.0.1:9")
    outcome = run_job(ordered(job(FRAMES), kept, away, model_name))
    assert outcome.state == "failed"
    assert "can't be reached" in outcome.why


def test_wear_is_left_out_by_the_anchor_and_faults_test_what_was_learnt(mlflow_settings, model_name, tmp_path):
    def wear(frame: int) -> float:
        if frame >= worn:
            return 0.2
        return 0.0 if frame < FRAMES else 0.0005 * 1.035 ** (frame - FRAMES)

    worn = 4 * FRAMES
    kept = heard(tmp_path / "archive", worn + 10, wear)
    first = run_job(ordered(job(FRAMES, direct=True), kept, mlflow_settings, model_name))
    assert first.version == 1
    fault = Unlearnable(Span(at(worn), at(worn + 10)), "fault")
    order = ordered(
        job(worn + 10, fault, number=2, anchored=True, faults=(fault.span,)),
        kept,
        mlflow_settings,
        model_name,
        anchor=1,
        champion=1,
    )
    outcome = run_job(order)
    assert outcome.version == 2, outcome.why
    left = outcome.departure
    assert left is not None
    assert at(FRAMES) <= left.since_us <= at(worn)
    assert left.distance > 3
    assert left.per_day > 0
    assert outcome.left_out["fault"] == 10
    assert outcome.left_out["left_anchor"] == sum(at(frame) >= left.since_us for frame in range(worn))
    tags = Registry(mlflow_settings).version(model_name, "2").tags
    assert parse_learning_tags(tags).baseline == Span(at(0), left.since_us)
    assert float(tags["learn_anchor_distance"]) == pytest.approx(left.distance, abs=1e-3)
    # The fault's frames are loud: whoever has not learnt them finds them.
    assert {name: (test.frames, test.covered) for name, test in outcome.test.items()} == {
        "challenger": (10, 1.0),
        "champion": (10, 1.0),
    }
    assert parse_learning_tags(tags).faults_covered == (1.0, 1.0)
    # Once a person has called a later alarm false, all until its end is learnt.
    accepted = replace(order, job=replace(order.job, accepted_us=at(worn - 20)))
    material = training._material(accepted, kept, tmp_path)
    assert material.span == Span(at(0), at(worn - 20))
    assert material.left_out["left_anchor"] == 20


def test_thresholds_are_held_to_live_days(kept, mlflow_settings, model_name, tmp_path):
    day = at(0) // DAY_US
    wild = tuple(LiveDay(day=day + number, frames=48, opening=1e6, mean=None) for number in range(12))
    found = []
    for number, live in enumerate(((), wild), start=1):
        outcome = run_job(ordered(job(FRAMES, number=number, live=live), kept, mlflow_settings, model_name))
        assert outcome.version == number, outcome.why
        with TrackingServer(mlflow_settings).client() as client:
            file = TrackingServer(mlflow_settings).download(client, model_name, str(number), "model.onnx", tmp_path)
        found.append(Model.load(file).metadata.thresholds_for(MACHINE).alert_threshold)
    assert found[1] == pytest.approx(LOOSEST * found[0])


def test_a_job_is_found_by_its_id_among_others(kept, mlflow_settings, model_name):
    client = client_of(mlflow_settings)
    assert version_of_job(client, model_name, "0" * 32) is None
    client.create_registered_model(model_name)
    for number in (7, 8, 8):
        client.create_model_version(model_name, "file:///nowhere", tags={"learn_job": f"{number:032x}"})
    assert version_of_job(client, model_name, f"{8:032x}") == 2
    assert version_of_job(client, model_name, f"{9:032x}") is None
