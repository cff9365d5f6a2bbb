"""What known speeds and loads do to a spectrum is learnt from normals, and taken off what is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from schemas import Condition
from schemas.errors import ModelError
from stream_app.pipeline.model import Model, as_array
from stream_app.pipeline.windowing import windows
from trainer.conditions import fit_conditioned, learn, without_conditions
from trainer.dataset import HeldOutFrame, HeldOutSet, Place, TrainingSet
from trainer.detector import find_detector
from trainer.graph import build
from trainer.spectrograms import Prepared
from trainer.train import TrainConfig, train_model

SHAPE = (1, 16, 10)
SLOPES = np.linspace(0.2, -0.1, 16)  # nat per cent of load
CONFIG = TrainConfig(normal=Path(), out=Path("model.onnx"), mlflow=False, detector="frame_spectrum")


def heard(loads: np.ndarray, seed: int, slopes: np.ndarray = SLOPES) -> np.ndarray:
    """Windows of a machine whose bands follow its load, float32 [window, channel, band, column]."""
    rng = np.random.default_rng(seed)
    level = (loads[:, np.newaxis] - 60) * slopes + rng.normal(0, 0.05, (len(loads), 1))
    noise = rng.normal(0, 0.3, (len(loads), *SHAPE))
    return (level[:, np.newaxis, :, np.newaxis] - 6 + noise).astype(np.float32)


def prepared(loads: np.ndarray, stated: list[Condition] | None = None, slopes: np.ndarray = SLOPES) -> Prepared:
    """Four fifths train, the others are held out; each is a recording of one window."""
    stated = [Condition(load=float(load)) for load in loads] if stated is None else stated
    upto = len(loads) * 4 // 5
    found = heard(loads, 0, slopes)
    columns = found[:upto].transpose(0, 3, 1, 2).reshape(-1, *SHAPE[:2])
    segments = tuple((i * SHAPE[2], SHAPE[2]) for i in range(upto))
    frames = tuple(HeldOutFrame(None, f"{i}.wav", i, 1, 1, one) for i, one in enumerate(stated[upto:]))
    places = tuple(Place(f"t{i}.wav", 0.0) for i in range(upto))
    train = TrainingSet(columns, segments, SHAPE[2], conditions=tuple(stated[:upto]), places=places)
    return Prepared(train, HeldOutSet(found[upto:], frames))


LOADS = np.random.default_rng(5).uniform(40, 80, 100)


def test_slopes_and_range_are_learnt():
    learnt = learn(prepared(LOADS))
    assert learnt.adjustment is not None
    assert np.abs(learnt.adjustment.slopes[1, 0] - SLOPES).max() < 0.003
    assert not learnt.adjustment.slopes[0].any()
    low, high = learnt.adjustment.ranges["load"]
    assert (low, high) == pytest.approx((LOADS[:80].min() - 4, LOADS[:80].max() + 4), abs=0.5)
    beyond = learnt.adjustment.of(as_array([Condition(load=high), Condition(load=500.0)]))
    assert np.array_equal(beyond[0], beyond[1])


def test_what_trains_is_adjusted_by_a_regression_that_has_not_seen_it():
    learnt = learn(prepared(LOADS))
    assert learnt.adjustment is not None
    assert learnt.unseen is not None
    seen = learnt.adjustment.of(as_array([Condition(load=float(load)) for load in LOADS[:80]]))
    assert 0 < np.abs(seen - learnt.unseen).max() < 0.1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (prepared(LOADS, [Condition()] * 100), ""),
        (prepared(LOADS, [Condition(load=50.0)] * 100), "load is not used: it does not vary, it is 50 in all"),
        (prepared(LOADS, [*[Condition(load=50.0)] * 40, *[Condition(load=70.0)] * 60]), "load changes too seldom"),
        (
            prepared(LOADS, [Condition(), *(Condition(load=float(one)) for one in LOADS[1:])]),
            "load is not used: 1 of 100 recordings that are learnt does not state it, first 't0.wav'",
        ),
        (prepared(LOADS, slopes=np.zeros(16)), "load explains 0% of the normals' spectra and is not used"),
        (
            prepared(LOADS, [Condition(load=1e9 if i == 7 else float(one)) for i, one in enumerate(LOADS)]),
            "load is 1e+09 in 't7.wav', far off the others' 40.",
        ),
    ],
    ids=["unknown", "constant", "seldom", "partly", "irrelevant", "outlier"],
)
def test_where_nothing_can_be_learnt_the_model_is_what_it_was(data: Prepared, why: str, tmp_path: Path):
    fitted, ranges = fit_conditioned(find_detector("frame_spectrum"), data, CONFIG, tmp_path, lambda _: None)
    plain = find_detector("frame_spectrum").fit(data, CONFIG, lambda _: None)
    assert (fitted.graph.version, ranges) == (plain.graph.version, {})
    assert why in fitted.why


def test_machines_that_differ_do_not_pass_for_what_load_does():
    """Of two machines, the one with the higher load is the quieter; within each, load makes louder."""
    loads = np.concatenate([np.linspace(20, 55, 50), np.linspace(65, 100, 50)])
    loads = loads[np.random.default_rng(1).permutation(100)]
    data = prepared(loads)
    machines = tuple("a" if load < 60 else "b" for load in loads[:80])
    quieter = np.where(np.array(machines) == "b", -20.0, 0.0).repeat(SHAPE[2])[:, np.newaxis, np.newaxis]
    train = replace(data.train, columns=(data.train.columns + quieter).astype(np.float32), machines=machines)
    learnt = learn(replace(data, train=train))
    assert learnt.adjustment is not None
    assert np.abs(learnt.adjustment.slopes[1, 0] - SLOPES).max() < 0.01


def two_machines(gap: float, seed: int) -> Prepared:
    """Two machines of the same law, each within 100 of its own mean speed."""
    rng = np.random.default_rng(seed)
    off, noise = rng.uniform(-100, 100, 60), rng.normal(0, 0.12, (60, 1)) + rng.normal(0, 0.06, (60, 32))
    centres = 1000.0 + gap * (np.arange(60) >= 30)
    levels = (0.004 * off[:, np.newaxis] + noise).astype(np.float32)[:, np.newaxis]
    stated = tuple(Condition(rpm=float(speed)) for speed in centres + off)
    places = tuple(Place(f"{i}.wav", 0.0) for i in range(60))
    machines = ("a",) * 30 + ("b",) * 30
    train = TrainingSet(levels, tuple((i, 1) for i in range(60)), 1, machines, stated, places)
    frames = tuple(HeldOutFrame("ab"[i >= 30], f"{i}.wav", i, 1, 1, stated[i]) for i in range(60))
    return Prepared(train, HeldOutSet(levels[..., np.newaxis], frames))


@pytest.mark.parametrize("gap", [0, 2000, 6000])
def test_machines_at_different_speeds_are_adjusted_each_about_its_own_mean(gap: float, tmp_path: Path):
    for seed in range(3):
        data = two_machines(gap, seed)
        learnt = learn(data)
        assert learnt.adjustment is not None
        assert "rpm explains" in learnt.why
        # What trains lies where the served graph puts the very same frames, but for the slope that has not seen them.
        served = learnt.adjustment.of(as_array(list(data.train.conditions)))
        assert learnt.unseen is not None
        assert np.abs(served - learnt.unseen).max() < 0.1
        left = without_conditions(data, tmp_path).train.columns
        for own in (slice(0, 30), slice(30, 60)):
            assert left[own].std(axis=0).mean() < 0.18  # 0.13 is the noise


def test_of_two_conditions_the_one_that_is_not_used_is_named():
    stated = [Condition(rpm=None if i % 10 == 3 else 1500.0 + i, load=float(one)) for i, one in enumerate(LOADS)]
    learnt = learn(prepared(LOADS, stated))
    assert learnt.adjustment is not None
    assert set(learnt.adjustment.ranges) == {"load"}
    assert learnt.why.startswith("load explains ")
    assert learnt.why.endswith("rpm is not used: 10 of 100 recordings that are learnt do not state it, first 't3.wav'")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory):
    """A detector that has heard the machine below 50 and above 70 per cent of its load."""
    rng = np.random.default_rng(5)
    data = prepared(np.where(rng.random(100) < 0.5, rng.uniform(40, 50, 100), rng.uniform(70, 80, 100)))
    folder = tmp_path_factory.mktemp("adjusted")
    return fit_conditioned(find_detector("frame_spectrum"), data, CONFIG, folder, lambda _: None)[0]


def test_a_fault_at_loads_that_were_not_trained_is_found_where_they_are_known(fitted):
    loads = np.random.default_rng(6).uniform(52, 68, 40)
    normal, faulty = heard(loads, 7), heard(loads, 8)
    faulty[:, :, 5:8] += 0.3
    known = as_array([Condition(load=float(load)) for load in loads])
    told = [fitted.graph.score(one, known)[0] for one in (normal, faulty)]
    untold = [fitted.graph.score(one)[0] for one in (normal, faulty)]
    areas = [(after[:, np.newaxis] > before).mean() for before, after in (told, untold)]
    assert areas[0] > 0.85
    assert areas[0] > areas[1] + 0.1


def test_scores_are_bit_identical_in_any_batch_whatever_is_known(fitted):
    loads = np.random.default_rng(9).uniform(20, 100, 64)
    found = heard(loads, 10)
    known = as_array([Condition(load=None if i % 3 == 0 else float(load)) for i, load in enumerate(loads)])
    alone = [fitted.graph.score(found[i : i + 1], known[i : i + 1]) for i in range(64)]
    for size in (2, 3, 7, 16, 64):
        for at in range(0, 64, size):
            score, bands = fitted.graph.score(found[at : at + size], known[at : at + size])
            assert np.array_equal(score, np.concatenate([one[0] for one in alone[at : at + size]]))
            assert np.array_equal(bands, np.concatenate([one[1] for one in alone[at : at + size]]))


def test_where_nothing_is_known_the_plain_detector_judges(tmp_path: Path):
    data, found = prepared(LOADS), heard(LOADS, 11)
    detector = find_detector("frame_spectrum")
    both = fit_conditioned(detector, data, CONFIG, tmp_path, lambda _: None)[0].graph.score(found)
    plain = detector.fit(data, CONFIG, lambda _: None).graph.score(found)
    ratio = both[0] / plain[0]
    assert ratio == pytest.approx(ratio[0], rel=1e-5)  # so that one threshold serves both
    assert both[1] == pytest.approx(plain[1] * ratio[0], rel=1e-5)


@pytest.mark.slow
def test_names_tell_a_training_how_the_machine_ran(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(30):
        load = rng.uniform(40, 80)
        samples = 0.02 * np.exp((load - 60) / 30) * rng.standard_normal(32_000)
        path = tmp_path / "pump-1" / f"{number:02}_{load:.1f}pct.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, 16_000)
    out = tmp_path / "model.onnx"
    config = TrainConfig(
        normal=tmp_path, out=out, mlflow=False, detector="frame_spectrum", pattern="{machine}/*_{load}pct"
    )
    result = train_model(config)
    assert "load explains" in result.detector_why
    model = Model.load(out)  # its golden windows too
    low, high = model.metadata.conditions["load"]
    assert low < 45
    assert high > 75
    assert all(window.condition is not None for window in model.metadata.golden)
    threshold = model.metadata.thresholds.alert_threshold
    loud = (0.02 * np.exp((78 - 60) / 30) * rng.standard_normal((1, 16_000))).astype(np.float32)
    cut = windows(model.features.log_mel(loud), model.metadata.features)
    known, idle = (model.score(cut, as_array([Condition(load=load)]))[0][0] for load in (78.0, 42.0))
    assert known < threshold < idle


def test_a_graph_with_conditions_needs_metadata_that_state_them(fitted, tmp_path: Path):
    from tests.models import tiny_metadata

    metadata = tiny_metadata()
    features = replace(metadata.features, bands=16, window_columns=10, time_axis="dynamic", max_columns=100)
    metadata = replace(metadata, features=features, normal_band_error=[[0.0] * 16])
    fitted.graph.save(tmp_path / "model.onnx", metadata)
    with pytest.raises(ModelError, match="has the input 'condition'; its metadata states no conditions"):
        Model.load(tmp_path / "model.onnx")
    plain = build(lambda log_mel: (log_mel.mean(3).mean(2).mean(1).square(), log_mel.mean(3)), SHAPE, any_length=True)
    plain.save(tmp_path / "model.onnx", replace(metadata, conditions={"rpm": (1.0, 2.0)}))
    with pytest.raises(ModelError, match="no input or output 'condition'"):
        Model.load(tmp_path / "model.onnx")


def test_a_small_step_of_what_hardly_varies_is_not_called_far_off():
    stated = [Condition(rpm=1501.0 if i % 20 == 3 else 1500.0, load=float(one)) for i, one in enumerate(LOADS)]
    stated[3] = Condition(rpm=1502.0, load=float(LOADS[3]))
    assert "far off" not in learn(prepared(LOADS, stated)).why
    one = [Condition(rpm=1501.0 if i == 3 else 1500.0) for i in range(100)]
    assert "far off" not in learn(prepared(LOADS, one)).why
