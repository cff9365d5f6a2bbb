"""What other numbers of the alert rule would have meant."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from backtest.alerting import as_normal, watched
from backtest.streams import ANOMALY, NORMAL, UNKNOWN, IncidentSpan, ScoredStream
from backtest.sweep.choice import pareto, recommend
from backtest.sweep.grid import Grid, RuleSetting
from backtest.sweep.incidents import Levels
from backtest.sweep.load import load_scores
from backtest.sweep.routes import recommended_toml
from backtest.sweep.standstill import standstills
from backtest.sweep.tried_settings import try_settings
from schemas.errors import RecordingError, SettingsError
from stream_app.pipeline.rule import Incident as RuleState
from stream_app.pipeline.rule import Rule, step
from tests.helpers import run_whirr
from whirr.settings import Route, load_settings


def stepped(streams: list[list[float]], rule: Rule) -> list[IncidentSpan]:
    """Return what the worker's own rule does, frame by frame."""
    found: list[IncidentSpan] = []
    start = 0
    for ratios in streams:
        state = RuleState()
        for index, value in enumerate(ratios, start):
            state, transition = step(state, value, rule)
            if transition == "opened":
                found.append(IncidentSpan(index, start + len(ratios)))
            elif transition == "closed":
                found[-1] = IncidentSpan(found[-1].opened, index)
        start += len(ratios)
    return found


RATIOS = st.lists(st.sampled_from([0.2, 0.5, 0.85, 0.95, 1.0, 1.2, 3.0]), max_size=40)


@given(
    streams=st.lists(RATIOS, min_size=1, max_size=4),
    k=st.integers(1, 6),
    more=st.integers(0, 6),
    m=st.integers(1, 6),
    hysteresis=st.sampled_from([0.5, 0.9, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_incidents_are_those_of_the_workers_rule(
    streams: list[list[float]], k: int, more: int, m: int, hysteresis: float
) -> None:
    levels = Levels.of([np.array(ratios, np.float64) for ratios in streams])
    assert levels.incidents(k, k + more, m, hysteresis) == stepped(streams, Rule(k, k + more, m, hysteresis))


RULES = st.lists(
    st.builds(
        lambda k, more, m, hysteresis: (k, k + more, m, hysteresis),
        st.integers(1, 4),
        st.integers(0, 4),
        st.integers(1, 4),
        st.sampled_from([0.5, 0.9, 1.0]),
    ),
    max_size=5,
)


@given(
    streams=st.lists(RATIOS, min_size=1, max_size=4),
    factors=st.lists(st.sampled_from([0.5, 1.0, 2.5]), min_size=1),
    rules=RULES,
)
@settings(max_examples=200, deadline=None)
def test_many_rules_and_thresholds_tried_together_open_the_incidents_of_each(
    streams: list[list[float]], factors: list[float], rules: list[tuple[int, int, int, float]]
) -> None:
    levels = Levels.of([np.array(ratios, np.float64) for ratios in streams]).above(factors)
    raised = [[ratio / factor for ratio in ratios] for factor in factors for ratios in streams]
    found = levels.incidents_of(rules)
    assert [spans.tolist() for spans in found] == [list(map(list, stepped(raised, Rule(*rule)))) for rule in rules]


def test_a_grid_tried_in_several_parts_leads_to_what_each_setting_leads_to_alone() -> None:
    courses = [*_noisy()] * 20  # so many frames that not all thresholds fit into one part
    grid = Grid(factors=(0.5, 1.0, 1.5, 2.0), m=(3,), hystereses=(0.9,))
    tried = try_settings(courses, grid)
    assert [one.setting for one in tried] == [setting for factor in grid.factors for setting in grid.of(factor)]
    for one in tried[::3]:
        (alone,) = try_settings(courses, only(one.setting))
        assert (alone.figures, alone.recall) == (one.figures, one.recall)


def stream(
    ratio: list[float], label: list[int], machine: str = "pump-1", step_s: float = 1.0, source: str = ""
) -> ScoredStream:
    start_us = (1_000_000_000 + np.arange(len(ratio)) * step_s).astype(np.int64) * 1_000_000
    return ScoredStream(
        machine,
        source,
        1.0,
        start_us,
        np.full(len(ratio), 1.0),
        np.array(ratio, np.float64),
        np.array(label, np.int8),
        np.zeros(len(ratio), np.int8),
        np.zeros(len(ratio), bool),
        start_us,
    )


def only(setting: RuleSetting) -> Grid:
    return Grid((setting.factor,), ((setting.k, setting.n),), (setting.m,), (setting.hysteresis,))


def test_faults_found_their_delay_and_false_alerts() -> None:
    quiet, loud = [0.5] * 20, [2.0] * 20
    courses = [
        stream(quiet + loud[:4] + quiet + loud, [NORMAL] * 44 + [ANOMALY] * 20),
        stream(quiet + quiet, [NORMAL] * 20 + [ANOMALY] * 20, "pump-2"),
    ]
    (outcome,) = try_settings(courses, only(RuleSetting(1.0, 3, 5, 5, 0.9)))
    figures = outcome.figures
    assert (figures.faults, figures.found, figures.false_alerts) == (2, 1, 1)
    assert outcome.recall == {"pump-1": 1.0, "pump-2": 0.0}
    assert figures.delays_s == (3.0, None)  # the third loud second has been heard
    assert outcome.figures.false_alerts_a_day == pytest.approx(86_400 / 64)
    # The false one opened with its third loud frame and closed with the fifth quiet one after the fourth.
    assert figures.normal_open_share == pytest.approx(6 / 64)


def test_an_incident_that_was_open_before_the_onset_has_not_found_the_fault() -> None:
    (outcome,) = try_settings(
        [stream([2.0] * 20, [NORMAL] * 10 + [ANOMALY] * 10)], only(RuleSetting(1.0, 3, 5, 5, 0.9))
    )
    assert (outcome.figures.found, outcome.figures.false_alerts, outcome.figures.already_open) == (0, 1, 1)


def test_an_incident_on_frames_without_a_label_is_neither_true_nor_false() -> None:
    known = stream([0.5] * 10 + [2.0] * 10 + [0.5] * 10, [NORMAL] * 10 + [UNKNOWN] * 10 + [NORMAL] * 10)
    unknown = stream(known.ratio.tolist(), [UNKNOWN] * 30)
    for one, figures in ((known, (0, 1)), (unknown, (1, 0))):
        streams, labelled = as_normal([one])
        assert labelled == (one is known)
        (outcome,) = try_settings(streams, only(RuleSetting(1.0, 3, 5, 5, 0.9)))
        assert (outcome.figures.false_alerts, outcome.figures.unlabelled_alerts) == figures


def test_a_night_without_recordings_is_no_watch() -> None:
    gap = stream([0.5] * 4, [NORMAL] * 4, step_s=36_000.0)
    assert watched(gap) == 3 * 60 + 1
    sparse = stream([0.5] * 4, [NORMAL] * 4, step_s=10.0)  # a tenth of the time, as a gateway that saves power
    assert watched(sparse) == 31


def test_a_machine_with_two_sensors_is_watched_once() -> None:
    one = stream([2.0] + [0.1] * 99, [NORMAL] * 100)
    other = stream(one.ratio.tolist(), one.label.tolist(), source="b")
    (outcome,) = try_settings([one, other], only(RuleSetting(1.0, 1, 1, 3, 0.9)))
    assert outcome.figures.false_alerts_a_day == pytest.approx(2 * 86_400 / 100)


def _noisy(seed: int = 1) -> list[ScoredStream]:
    rng = np.random.default_rng(seed)
    courses = []
    for number in range(4):
        ratio = rng.lognormal(-0.7, 0.25, 2000)
        ratio[1500:] *= 2.5
        courses.append(stream(ratio.tolist(), [NORMAL] * 1500 + [ANOMALY] * 500, f"m{number}"))
    return courses


def test_the_front_holds_what_nothing_beats() -> None:
    every = try_settings(_noisy(), Grid())
    front = pareto(every)
    assert 1 <= len(front) < len(every) / 4
    for one in front:
        assert not any(
            all(theirs <= ours for theirs, ours in zip(other.cost, one.cost, strict=True)) and other.cost != one.cost
            for other in every
        )


def test_the_recommended_setting_finds_all_with_room_on_both_sides() -> None:
    grid = Grid()
    choice = recommend(try_settings(_noisy(), grid))
    assert (choice.outcome.figures.found, choice.outcome.figures.false_alerts) == (4, 0)
    low, high = choice.factors
    assert low < choice.outcome.setting.factor < high
    assert "it finds 4 of 4 faults, with 0 false alerts" in choice.reason
    # Recordings of another day, drawn alike, are judged alike.
    setting = choice.outcome.setting
    (again,) = try_settings(_noisy(2), only(setting))
    assert (again.figures.found, again.figures.false_alerts) == (4, 0)


def test_where_every_setting_alerts_falsely_the_fewest_are_taken_and_told() -> None:
    courses = [stream([9.0] * 50, [NORMAL] * 50)]
    choice = recommend(try_settings(courses, Grid()))
    assert choice.outcome.figures.false_alerts == 1
    assert "No setting has as few as 0 false alerts; the fewest are 1" in choice.reason


def test_more_false_alerts_are_taken_where_they_are_allowed_and_find_more() -> None:
    hum = [1.5, 0.1, 0.1, 0.1, 0.1] * 4
    courses = [stream([0.1] * 20 + hum + [0.1] * 9 + [1.4], [NORMAL] * 40 + [ANOMALY] * 10)]
    strict, lenient = (
        recommend(try_settings(courses, Grid())),
        recommend(try_settings(courses, Grid()), most_false_alerts=4),
    )
    assert (strict.outcome.figures.found, strict.outcome.figures.false_alerts) == (0, 0)
    assert lenient.outcome.figures.found == 1
    assert 1 <= lenient.outcome.figures.false_alerts <= 4


def test_the_recommendation_is_a_file_that_the_worker_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = recommend(try_settings(_noisy(), Grid(factors=(1.2,))))
    unfamiliar = ("machine", "rate")
    route = Route(match="m*", model='a "b".onnx', running_dbfs=-50.0, k=1, n=1, refuse_unfamiliar=unfamiliar)
    thresholds = {f"m{number}": 2.0 + number for number in range(4)}
    text = recommended_toml(choice, [route], thresholds, "From a sweep.\nOf four machines.")
    assert text.startswith("# From a sweep.\n# Of four machines.\n# ")
    (tmp_path / "whirr.toml").write_text(text)
    monkeypatch.setenv("WHIRR_SETTINGS_FILE", str(tmp_path / "whirr.toml"))
    loaded = load_settings().route
    here = choice.outcome.setting
    assert [one.match for one in loaded] == [*thresholds, "m*"]  # the last for machines that were not replayed
    for one in loaded:
        assert (one.k, one.n, one.m, one.hysteresis) == here[1:]
        assert (one.model, one.running_dbfs, one.refuse_unfamiliar) == (route.model, -50.0, unfamiliar)
    for one in loaded[:-1]:
        assert one.threshold == pytest.approx(thresholds[one.match] * here.factor, rel=1e-5)
    assert loaded[-1].threshold is None


def test_machines_of_one_threshold_keep_their_one_route_and_others_are_left_alone() -> None:
    choice = recommend(try_settings(_noisy(), Grid(factors=(1.2,))))
    routes = [Route(match="m*", model="m.onnx"), Route(match="fan-*", model="fan.onnx", k=2, n=2)]
    text = recommended_toml(choice, routes, dict.fromkeys(("m1", "m2"), 3.0), "")
    pumps, fans = tomllib.loads(text)["route"]
    assert pumps["match"] == "m*"
    assert pumps["threshold"] == pytest.approx(3.0 * choice.outcome.setting.factor, rel=1e-5)
    assert fans == {"match": "fan-*", "model": "fan.onnx", "k": 2, "n": 2, "m": 5, "hysteresis": 0.9}


def test_thresholds_that_stay_are_not_written() -> None:
    tried = try_settings(_noisy(), only(RuleSetting(1.0, 3, 5, 5, 0.9)))
    text = recommended_toml(recommend(tried), [Route(model="m.onnx")], {"m1": 3.0, "m2": 4.0}, "")
    (route,) = tomllib.loads(text)["route"]
    assert route == {"match": "*", "model": "m.onnx", "k": 3, "n": 5, "m": 5, "hysteresis": 0.9}


def test_the_default_rule_is_kept_where_another_one_gains_nothing() -> None:
    rng = np.random.default_rng(0)
    ratio = np.concatenate([rng.uniform(0.1, 0.2, 200), rng.uniform(5.0, 6.0, 50)])
    here = recommend(try_settings([stream(ratio.tolist(), [NORMAL] * 200 + [ANOMALY] * 50)], Grid())).outcome.setting
    assert here[1:] == (3, 5, 5, 0.9)


def test_alerts_of_a_machine_that_stands_still_call_for_a_running_level() -> None:
    ratio = [0.5] * 50 + [3.0] * 10 + [0.5] * 40
    still = replace(stream(ratio, [NORMAL] * 100), level_dbfs=np.array([-30.0] * 50 + [-80.0] * 10 + [-30.0] * 40))
    loud = replace(still, machine="pump-2", level_dbfs=np.full(100, -30.0))
    (found,) = standstills([still, loud])
    assert found == ("pump-1", 1, -80.0, -30.0)
    assert found.running_dbfs == -55


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k_of_n": ((4, 3),)}, r"k_of_n is \(4, 3\); expected 1 <= k"),
        ({"factors": (0.0,)}, "factor is 0.0; expected above 0"),
        ({"hystereses": (1.5,)}, r"hysteresis is 1\.5; expected above 0, at most 1"),
        ({"m": (0,)}, "m is 0; expected 1 to 1,000"),
    ],
)
def test_a_grid_of_nonsense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Grid(**values)  # type: ignore[arg-type]


# The command


def _scores(folder: Path, *, labels: bool = True) -> None:
    rows = []
    for number, one in enumerate(_noisy()[:2]):
        for index in range(len(one)):
            label = ("anomaly" if one.label[index] == ANOMALY else "normal") if labels else "none"
            rows.append(
                {
                    "machine_id": one.machine,
                    "source": None,
                    "recorded_time": datetime.fromtimestamp(one.recorded_us[index] / 1e6, UTC),
                    "duration_s": 1.0,
                    "score": one.ratio[index] * (3.0 + number),
                    "threshold": 3.0 + number,
                    "status": "idle" if index < 10 else "scored",
                    "sensor_fault": "flat" if 10 <= index < 15 else None,
                    "label": label,
                }
            )
    folder.mkdir(exist_ok=True)
    schema = pa.Table.from_pylist(rows).schema.set(2, pa.field("recorded_time", pa.timestamp("us", "UTC")))
    parquet.write_table(pa.Table.from_pylist(rows, schema), folder / "scores.parquet")


def test_streams_are_read_from_the_scores_of_a_replay(tmp_path: Path) -> None:
    _scores(tmp_path)
    loaded = load_scores(tmp_path)
    assert loaded.thresholds == {"m0": 3.0, "m1": 4.0}
    assert loaded.left_out == 30
    for ours, theirs in zip(loaded.streams, _noisy(), strict=False):
        np.testing.assert_allclose(ours.ratio, theirs.ratio)
        np.testing.assert_array_equal(ours.label, theirs.label)
        np.testing.assert_array_equal(ours.recorded_us, theirs.recorded_us)
        np.testing.assert_array_equal(ours.moving, np.arange(15, 2000))
    with pytest.raises(
        RecordingError, match=r"holds no scores\.parquet; expected the folder that `whirr replay --out`"
    ):
        load_scores(tmp_path / "elsewhere")


@pytest.mark.slow
def test_the_command_recommends_and_writes(tmp_path: Path) -> None:
    _scores(tmp_path / "run")
    arguments = ["sweep", str(tmp_path / "run"), "--model", "m.onnx", "--write", str(tmp_path / "whirr.toml")]
    printed = run_whirr(*arguments)
    assert printed.returncode == 0, printed.stderr
    assert "1050 settings on 3,970 frames of 2 machines" in printed.stdout
    assert "it finds 2 of 2 faults, with 0 false alerts" in printed.stdout
    told = orjson.loads(run_whirr(*arguments, "--json", "--factor", "1.1", "--k-of-n", "3/5", "--k-of-n", "1/1").stdout)
    assert (told["settings"], len(told["tried"])) == (2 * 3 * 2, 2 * 3 * 2)
    assert told["labelled"] is True
    assert told["recommended"]["found"] == 2
    assert tomllib.loads((tmp_path / "whirr.toml").read_text())["route"][1]["match"] == "m1"


@pytest.mark.slow
def test_without_labels_every_alert_counts_as_false_and_that_is_told(tmp_path: Path) -> None:
    _scores(tmp_path, labels=False)
    printed = run_whirr("sweep", str(tmp_path))
    assert "no recording is labelled" in printed.stderr
    assert "there is no fault to find" in printed.stdout


@pytest.mark.slow
def test_nonsense_is_refused(tmp_path: Path) -> None:
    _scores(tmp_path)
    assert "--k-of-n is 'three'; expected k/n" in run_whirr("sweep", str(tmp_path), "--k-of-n", "three").stderr
    done = run_whirr("sweep", str(tmp_path), "--write", str(tmp_path / "w.toml"))
    assert done.returncode == 2
    assert "no route in whirr.toml matches machine 'm0'; name the model with --model" in done.stderr
