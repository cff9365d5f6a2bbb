"""Answers are the same after they have crossed from the computing process."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import Condition, DeadLetter
from schemas.model_metadata import FeatureConfig
from stream_app.pipeline import Computed, Engine, Model, Router
from stream_app.pipeline.analyse import ShadowScore
from stream_app.worker.answers import PackedAnswers, pack, unpack
from tests.models import START_US, encoded, noise, record, tiny_metadata, tiny_model
from whirr.settings import Route


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Two models of different numbers of bands."""
    folder: Path = tmp_path_factory.mktemp("models")
    features = FeatureConfig(bands=32, n_fft=256, hop=128)
    models = {
        "pump": Model.load(tiny_model(folder / "pump.onnx")),
        "fan": Model.load(tiny_model(folder / "fan.onnx", tiny_metadata(features))),
    }
    return Engine(Router.from_routes([Route(match=f"{name}-*", model=name) for name in models], models))


def crossed(answers: list[Any]) -> PackedAnswers:
    packed: PackedAnswers = pickle.loads(pickle.dumps(pack(answers)))
    return packed


def assert_same(far: Any, near: Any) -> None:
    assert type(far) is type(near)
    if isinstance(near, DeadLetter):
        assert far == near
        return
    for field in fields(Computed):
        there, here = getattr(far, field.name), getattr(near, field.name)
        if isinstance(here, np.ndarray):
            assert (there.dtype, there.shape) == (here.dtype, here.shape), field.name
            assert np.array_equal(there, here), field.name
        else:
            assert there == here, field.name
            assert type(there) is type(here), field.name


@pytest.mark.parametrize("machines", [["pump-1"], ["pump-1", "fan-1"], []])
def test_answers_are_what_they_were(engine: Engine, machines: list[str]) -> None:
    value = encoded(noise())
    records = [record(b"no audio", "pump-9"), record(None, "fan-9")]
    for number, machine in enumerate(machines):
        at_us, told = START_US + number * 1_000_000, Condition(1500.0, None)
        records += [
            record(value, machine, at_us, source="mic", sequence=number),
            record(value, machine, condition=told, offset=7),
            record(encoded(noise(rms=0.0)), machine, at_us + 1),
        ]
    near = engine.compute(records)
    assert sum(isinstance(one, DeadLetter) for one in near) == 2
    packed = crossed(near)
    assert isinstance(packed.band_errors, list) == (len(machines) != 1)
    for far, here in zip(unpack(packed, records, engine.router), near, strict=True):
        assert_same(far, here)


def test_a_challengers_score_crosses_with_its_champions(engine: Engine) -> None:
    records = [record(encoded(noise()))]
    (computed,) = engine.compute(records)
    assert isinstance(computed, Computed)
    computed = replace(computed, shadow=ShadowScore(0.25, ("rate",)), unfamiliar=("length",), sensor_fault="clipped")
    (far,) = unpack(crossed([computed]), records, engine.router)
    assert_same(far, computed)
