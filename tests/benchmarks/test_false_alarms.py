"""What becomes of a false alarm: the like of it, and faults after it."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.false_alarms import Case, Tried, cases, tried
from benchmarks.operator import FAULTY, NORMAL
from stream_app.pipeline import Computed, Engine, Model, Router
from tests.models import course, tiny_model
from whirr.settings import Route


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    model = Model.load(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))
    return Router.from_routes([Route(model="m")], {"m": model})


@pytest.fixture(scope="module")
def frames(router):
    (one,) = Engine(router).compute(course([1], "m"))
    assert isinstance(one, Computed)

    def made(count, score, first_band):
        error = np.full_like(one.band_error, 0.45)
        error[:, first_band : first_band + 8] += 5.0
        return [replace(one, score=score, band_error=error)] * count

    return made


def test_the_like_is_quiet_and_another_fault_is_found(router, frames):
    case = Case(frames(20, 1.5, 0), frames(20, 1.5, 0), [frames(10, 1.5, 64), frames(10, 1.5, 0)])
    assert tried(case, router, 1.0) == Tried(false_alarms=1, again=0, faults=2, found=1, delays=[0])


def test_what_is_unlike_is_found_again(router, frames):
    case = Case(frames(20, 1.5, 0), frames(20, 1.5, 32), [])
    assert tried(case, router, 1.0) == Tried(false_alarms=1, again=1)


def test_where_nothing_was_found_there_is_no_false_alarm(router, frames):
    assert tried(Case(frames(20, 0.5, 0), frames(20, 1.5, 0), [frames(5, 1.5, 0)]), router, 1.0) == Tried()


def test_normals_are_a_case_and_so_is_each_condition_of_the_motor(frames):
    heard = frames(40, 1.5, 0)
    kinds = [NORMAL] * 20 + [FAULTY] * 20
    names = ["normal_1"] * 20 + ["anomaly_c1_1"] * 14 + ["anomaly_c2_1"] * 6
    assert [tuple(map(len, case)) for case in cases("sim_fan/x", names, kinds, heard)] == [(11, 9, 1)]
    assert [tuple(map(len, case)) for case in cases("motor/motor", names, kinds, heard)] == [(11, 9, 1), (7, 7, 1)]
