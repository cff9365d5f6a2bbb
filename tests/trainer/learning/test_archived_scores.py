"""What a model says of archived frames, held against the pure core's own answers."""

from __future__ import annotations

from pathlib import Path

import pytest

import archive
from schemas.condition import Condition
from stream_app.pipeline import Engine, Model, Router
from tests.archive.kept import added
from tests.models import START_US, course, encoded, noise, record, tiny_model
from trainer.learning.archived_scores import archived_scores, fault_test
from whirr.settings import Route

LOUD = 10.0


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_model(tmp_path / "m.onnx"))


def test_archived_frames_have_the_scores_that_a_worker_gave_them(model, tmp_path):
    frames = course([1.0, 2.0, LOUD] * 15, source="mic")
    frames.append(record(encoded(noise(seed=99)), "pump-1", START_US + 99_000_000, condition=Condition(1500.0, 0.5)))
    frames.append(record(encoded(0 * noise()), "pump-1", START_US + 100_000_000))  # a dead sensor says nothing
    kept = archive.open(str(tmp_path / "archive"))
    entries = [one.entry for one in added(kept, frames)]
    times, scores = archived_scores(model, kept, entries)
    engine = Engine(Router.from_routes([Route(match="*", model="m")], {"m": model}))
    assert scores.tolist() == [one.score for one in engine.compute(frames[:-1])]
    assert times == [one.recorded_us for one in entries[:-1]]
    (tmp_path / "archive" / entries[0].path).unlink()
    assert archived_scores(model, kept, entries)[0] == times[1:]


def test_confirmed_faults_are_covered_and_told_from_normals(model, tmp_path):
    kept = archive.open(str(tmp_path / "archive"))
    entries = [one.entry for one in added(kept, course([1.0] * 25 + [LOUD] * 6 + [1.0] * 2))]
    found = fault_test(model, kept, entries[25:], entries[:25])
    assert found is not None
    assert (found.frames, found.covered, found.normals) == (8, 0.75, 25)
    assert found.auc is not None
    assert 0.75 <= found.auc < 1.0
    few = fault_test(model, kept, entries[25:], entries[:5])
    assert few is not None
    assert (few.normals, few.auc) == (5, None)
    for entry in entries[25:]:
        (tmp_path / "archive" / entry.path).unlink()
    assert fault_test(model, kept, entries[25:], entries[:25]) is None
