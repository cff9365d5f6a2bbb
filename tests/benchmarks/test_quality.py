"""The evaluation of detectors: what is chosen where, how sure a mean is, and that the yardstick is as published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.quality import report
from benchmarks.quality.__main__ import _designs
from benchmarks.quality.baseline import BASELINES
from benchmarks.quality.choosing import choose, design_of, harmonic_mean
from benchmarks.quality.designs import DESIGNS
from benchmarks.quality.intervals import difference_interval, interval
from benchmarks.quality.protocol import Measured, contaminants, contaminated
from benchmarks.quality.rows import HALVES, ROWS, Split, is_here, split
from benchmarks.quality.runs import Places, Task, run
from benchmarks.quality.simulated import MADE, TEST_LOADS, TRAIN_LOADS, at_load, make
from edge_agent.simulator import Machine
from tests.helpers import SHARED_DATA, needs_shared_data
from trainer.detector import DETECTORS
from trainer.train_options import TrainConfig

SOME = ("motor/motor", "femto/Bearing1_2", "fan_high/fan", "car_idle/car01")  # two of either half
PUBLISHED = {  # AUC of LW and NN, by ../shared/data/README.md
    "motor/motor": (0.848, 0.846),
    "car_idle/car01": (0.985, 0.994),
}


def measured(auc: float, rank: int = 0) -> Measured:
    """Return a measurement of that AUC over 100 pairs; ``rank`` tells seeds apart."""
    below = round((1 - auc) * 100)
    normal = [float(i < below) * 2 for i in range(100)]
    return Measured(normal=tuple(normal), anomalous=(1.0 + rank * 1e-3,))


def rows(*aucs: float | Sequence[float]) -> dict[str, list[Measured]]:
    """Return a measurement of each row in SOME; several AUCs are several seeds."""
    every = [np.atleast_1d(auc) for auc in aucs]
    return {row: [measured(float(a), i) for i, a in enumerate(of)] for row, of in zip(SOME, every, strict=True)}


# Rows


def test_there_are_24_rows_and_no_set_is_in_both_halves():
    assert len(ROWS) == len(set(ROWS)) >= 24
    sets = [
        {row.split("/")[0].removeprefix("fan_").replace("high", "rig").replace("moving", "rig") for row in half}
        for half in HALVES.values()
    ]
    assert not sets[0] & sets[1]


@needs_shared_data
@pytest.mark.parametrize("row", [row for row in ROWS if row not in MADE])
def test_no_recording_of_a_row_is_in_two_parts(row: str):
    parts = split(row, SHARED_DATA, Path("nothing is made"))
    together = [path for part in parts[:3] for path in part]
    assert len(set(together)) == len(together)
    assert all(len(part) >= 8 for part in parts[:3])
    assert is_here(row, SHARED_DATA)


@needs_shared_data
def test_another_condition_trains_on_every_other_recording_and_published_normals_are_anomalous_then():
    trains, normal, anomalous, _ = split("motor/motor:c2", SHARED_DATA, Path())
    assert {path.name[:11] for path in (*trains, *normal)} == {"anomaly_c2_"}
    assert sorted((*trains, *normal))[::2] == list(trains)
    assert {path.name.split("_")[1] for path in anomalous} == {"c0", "c1", "c3", "c4"}
    trains, normal, anomalous, _ = split("car_idle/car01:coil", SHARED_DATA, Path())
    assert {path.name[:16] for path in trains} == {path.name[:16] for path in normal}  # each session in both
    trains, normal, *_ = split("fan_high/fan:weight", SHARED_DATA, Path())
    assert max(path.name for path in trains) < min(path.name for path in normal)
    assert all(path.name.startswith("normal_") for path in anomalous)


@needs_shared_data
@pytest.mark.slow
@pytest.mark.timeout(600)  # 20 s on a quiet core
def test_the_baselines_give_the_published_figures(tmp_path: Path):
    tasks = [Task(row, name) for row in PUBLISHED for name in BASELINES]
    found = run(tasks, Places(root=SHARED_DATA, build=tmp_path), 1)
    aucs = {row: tuple(found[Task(row, name)][0].auc for name in BASELINES) for row in PUBLISHED}
    assert aucs == {row: pytest.approx(published, abs=0.001) for row, published in PUBLISHED.items()}


def test_a_simulated_row_is_made_once_and_its_faulty_recordings_differ(tmp_path: Path):
    row = MADE["sim_accelerometer/imbalance"]
    folder = make(row, tmp_path)
    counts = {part.name: len(list(part.iterdir())) for part in folder.iterdir()}
    assert counts == {"train": 60, "normal": 40, "anomalous": 40}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")}
    assert make(row, tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")} == before


def test_a_machine_under_load_is_slower_and_louder_and_is_tested_at_loads_that_it_was_not_trained_at():
    spec = MADE["sim_gearbox/loads"].spec
    light, heavy = (at_load(spec, load) for load in (0.4, 0.9))
    assert light.nominal_hz > heavy.nominal_hz
    level = [float(np.std(Machine(one, rate_hz=16_000).read(160_000))) for one in (light, at_load(spec, 0.7), heavy)]
    assert level == sorted(level)
    assert at_load(spec, spec.load_mean) == spec
    assert not set(TRAIN_LOADS) & set(TEST_LOADS)


# Choosing


def test_a_design_is_chosen_on_one_half_and_reported_on_the_other():
    designs = {"good on A": rows(0.9, 0.9, 0.6, 0.6), "good on B": rows(0.7, 0.7, 0.8, 0.8)}
    on_a, on_b = choose(designs)
    assert (on_a.design, on_a.chosen_on, on_a.reported_on) == ("good on A", SOME[:2], SOME[2:])
    assert [on_a.chosen_mean, on_a.harmonic_mean] == pytest.approx([0.9, 0.6])
    assert on_b.design == "good on B"
    assert on_b.harmonic_mean == pytest.approx(0.7)
    assert design_of(designs, [on_a, on_b]) == dict.fromkeys(SOME[:2], "good on B") | dict.fromkeys(
        SOME[2:], "good on A"
    )


def test_a_row_that_fails_counts_most_in_the_choice():
    designs = {"even": rows(0.8, 0.8, 0.5, 0.5), "uneven": rows(1.0, 0.65, 0.5, 0.5)}
    assert choose(designs)[0].design == "even"
    assert harmonic_mean([1.0, 0.0]) == 0.0


def test_seeds_are_averaged_before_a_design_is_chosen():
    designs = {"lucky": rows([0.5, 0.95], [0.5, 0.95], 0.5, 0.5), "steady": rows([0.8, 0.8], [0.8, 0.8], 0.5, 0.5)}
    assert choose(designs)[0].design == "steady"


def test_without_the_other_half_nothing_is_chosen_and_the_default_is_reported():
    of_rows = [dict(list(rows(0.6, 0.6, 0, 0).items())[:2]), dict(list(rows(0.9, 0.9, 0, 0).items())[:2])]
    designs = dict(zip(("default", "better"), of_rows, strict=True))
    assert choose(designs) == ()
    assert set(design_of(designs, ()).values()) == {"default"}


# Intervals


def test_an_interval_spans_rows_and_is_the_same_each_time():
    aucs = {"a": [0.7], "b": [0.8], "c": [0.9], "d": [1.0]}
    low, high = interval(aucs)
    assert 0.7 < low < harmonic_mean([0.7, 0.8, 0.9, 1.0]) < high < 1.0
    assert interval(aucs) == (low, high)
    assert interval({"a": [0.8], "b": [0.8]}) == pytest.approx((0.8, 0.8))


def test_chance_in_training_widens_an_interval():
    alone = interval({"a": [0.8], "b": [0.8]})
    seeds = interval({"a": [0.7, 0.8, 0.9], "b": [0.7, 0.8, 0.9]})
    assert seeds[0] < alone[0] - 0.02
    assert seeds[1] > alone[1] + 0.02


def test_a_difference_is_that_of_the_same_rows():
    one = {"a": [0.5], "b": [0.9], "c": [1.0]}
    low, high = difference_interval({row: [auc[0] - 0.01] for row, auc in one.items()}, one)
    assert -0.03 < low <= high < 0  # the rows' own spread of 0.5 is none of it
    with pytest.raises(ValueError, match="expected the same"):
        difference_interval(one, {"a": [0.5]})


# Contamination


def paths(name: str, count: int) -> list[Path]:
    return [Path(f"{name}{number}") for number in range(count)]


def test_contamination_is_the_share_of_what_trains_and_is_not_tested():
    clean = Split(paths("train", 95), paths("normal", 10), paths("fault", 20))
    places = contaminants(clean, 0.05)
    assert places == [2, 6, 10, 14, 18]
    dirty = contaminated(clean, places)
    assert len(dirty.train) == 100
    assert {path.name for path in dirty.train if path.name.startswith("fault")} == {f"fault{i}" for i in places}
    assert [path for path in dirty.train if path in clean.train] == clean.train
    steps = np.diff([i for i, path in enumerate(dirty.train) if path.name.startswith("fault")])
    assert all(18 <= step <= 22 for step in steps)
    assert not set(dirty.train) & set(dirty.anomalous)
    assert len(dirty.anomalous) == 15
    scores = Measured(normal=(0.0,), anomalous=tuple(float(i) for i in range(20))).without(places).anomalous
    assert [int(score) for score in scores] == [int(path.name.removeprefix("fault")) for path in dirty.anomalous]


def test_a_row_with_too_few_anomalous_recordings_is_not_contaminated():
    assert contaminants(Split(paths("train", 5), [], paths("fault", 20)), 0.05) == []
    assert contaminants(Split(paths("train", 95), [], paths("fault", 9)), 0.05) == []


# Runs


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(root=tmp_path / "nothing", build=tmp_path / "build")


@pytest.mark.slow
def test_what_was_measured_is_read_and_measured_again_when_asked(places: Places, capfd: pytest.CaptureFixture[str]):
    task = Task("sim_accelerometer/imbalance", "pooled", seeds=3)

    def keep(**changed: object) -> None:
        for path, content in kept.items():
            path.write_bytes(orjson.dumps(content | changed))

    (first,) = run([task], places, 1)[task]  # the second seed gave the same graph, and the third wasn't asked for
    kept = {path: orjson.loads(path.read_bytes()) for path in places.build.rglob("*.json")}
    assert len(kept) == 2
    keep(why="kept")
    assert run([task], places, 1)[task][0].why == "kept"
    keep(why="kept", options=next(iter(kept.values()))["options"] | {"epochs": 1})
    assert run([task], places, 1)[task][0].why == first.why
    keep(why="kept")
    (again,) = run([task], replace(places, fresh=True), 1)[task]
    assert (again.normal, again.anomalous, again.why) == (first.normal, first.anomalous, first.why)
    assert "[1/1" in capfd.readouterr().err


# What is printed


def found() -> dict[str, report.Judged]:
    designs = {
        "baseline_lw": {"default": rows(0.8, 0.8, 0.8, 0.8)},
        "baseline_nn": {"default": rows(0.85, 0.7, 0.7, 0.7)},
        "conv_ae": {"default": rows(0.7, 0.7, 0.7, 0.7)},
        "auto": {"first": rows(0.9, 0.9, 0.6, 0.6), "second": rows(0.84, 0.7, 0.8, [0.8, 0.9])},
    }
    return {name: report.Judged.of(of) for name, of in designs.items()}


def test_the_json_gives_each_row_by_the_design_that_was_chosen_on_the_other_half():
    told = orjson.loads(orjson.dumps(report.as_json(found())))
    assert set(told) == {"baseline_lw", "baseline_nn", "conv_ae", "auto", "_halves"}
    assert {row: one["auc"] for row, one in told["auto"].items()} == {
        "motor/motor": 0.84,
        "femto/Bearing1_2": 0.7,
        "fan_high/fan": 0.6,
        "car_idle/car01": 0.6,
    }
    assert set(told["auto"]["motor/motor"]) == {"auc", "pauc"}
    on_a, on_b = told["_halves"]["auto"]
    assert (on_a["design"], on_a["harmonic_mean"]) == ("first", 0.6)
    assert on_a["chosen_on"] == on_b["reported_on"] == list(SOME[:2])
    assert on_a["reported_on"] == on_b["chosen_on"] == list(SOME[2:])


def test_the_margin_is_over_the_better_baseline_of_each_row():
    margins = report.margins(found(), "auto")
    assert margins == {row: pytest.approx(gap) for row, gap in zip(SOME, (-0.01, -0.1, -0.2, -0.2), strict=True)}


def test_differences_are_told_on_each_half_and_on_all_rows():
    (line,) = [one for one in report.differences(found()) if one.startswith("auto")]
    assert line.startswith("auto - conv_ae: A +0.064 (")
    assert ", B -0.100 (" in line
    assert ", all " in line


def test_every_design_is_one_that_can_be_trained():
    assert set(DESIGNS) == set(DETECTORS)
    for detector, designs in DESIGNS.items():
        for design in designs.values():
            TrainConfig(normal=Path(), out=Path("m.onnx"), detector=detector, **design).check()


def test_an_ablation_is_measured_where_it_is_named_alone():
    assert "untrimmed" not in _designs("frame_spectrum", None)
    assert _designs("frame_spectrum", None)[0] == "default"
    assert _designs("frame_spectrum", ["untrimmed"]) == ["untrimmed"]
    assert _designs("pooled", ["untrimmed"]) == ["default"]
