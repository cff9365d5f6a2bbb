"""What is kept of a machine, as its learning asks of it: new states in the archive, drifts in the features' history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archive import Archive
from archive import open as open_archive
from archive.operating_states import band_edges_hz
from feature_repo import fields
from feature_repo.history import write_rows
from feature_repo.rows import FeatureRow
from schemas.condition import Condition
from stream_app.pipeline.statistics import STATISTICS
from tests.archive.kept import HOUR_US, MACHINE, entry, put
from tests.models import START_US
from trainer.learning.kept_history import KeptHistory
from trainer.learning.spans import Span
from trainer.learning.stability import MOST_NEW

DAYS = 40
DAY_US = 24 * HOUR_US
HOUR_S = 3600
EVER = Span(START_US, None)


def kept(archive: Archive, features: Path) -> KeptHistory:
    return KeptHistory(archive, features, 1.0, lambda: START_US + DAYS * DAY_US)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return open_archive(str(tmp_path / "archive"))


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return tmp_path / "history"


# New states


def calm(hours: range, **more: float) -> list:
    return [entry(hour * HOUR_S, machine=MACHINE) for hour in hours]


def test_a_machine_that_goes_on_as_before_has_no_new_states(archive: Archive, features: Path) -> None:
    put(archive, calm(range(40)))
    assert kept(archive, features).share_of_new(MACHINE, START_US) <= MOST_NEW


def test_a_state_that_comes_at_the_end_is_new(archive: Archive, features: Path) -> None:
    loud = [entry(hour * HOUR_S, level_db=-12.0) for hour in range(30, 40)]
    put(archive, [*loud, *calm(range(30))])  # written in another order than recorded
    assert kept(archive, features).share_of_new(MACHINE, START_US) == 1.0


def test_a_state_that_was_there_before_is_not_new(archive: Archive, features: Path) -> None:
    levels = [-30.0 if hour % 3 else -12.0 for hour in range(40)]
    put(archive, [entry(hour * HOUR_S, level_db=level) for hour, level in enumerate(levels)])
    assert kept(archive, features).share_of_new(MACHINE, START_US) <= MOST_NEW


def test_what_came_before_the_baseline_and_what_other_machines_do_is_not_asked(
    archive: Archive, features: Path
) -> None:
    loud = [entry(hour * HOUR_S, level_db=-12.0) for hour in range(30)]
    other = [entry(hour * HOUR_S + 1, level_db=-60.0, machine="fan-1") for hour in range(50, 60)]
    put(archive, [*loud, *calm(range(30, 70)), *other])
    one = kept(archive, features)
    assert one.share_of_new(MACHINE, START_US + 30 * HOUR_US) <= MOST_NEW
    assert one.share_of_new("motor-1", START_US) == 1.0  # nothing was heard


def test_frames_with_and_without_a_known_speed_are_compared_by_what_both_have(archive: Archive, features: Path) -> None:
    frames = [entry(hour * HOUR_S, condition=Condition(rpm=1500.0) if hour % 2 else Condition()) for hour in range(40)]
    put(archive, frames)
    assert kept(archive, features).share_of_new(MACHINE, START_US) <= MOST_NEW


# Drifts


def write(
    features: Path,
    moved: dict[str, tuple[int, float]],
    machine: str = MACHINE,
    state: str = "normal",
    first_day: int = 0,
) -> None:
    """Every two hours of 40 days a row; a statistic that moves does so from a day on, in deviations between days."""
    rng = np.random.default_rng(4)
    rows = []
    for day in range(first_day, DAYS):
        of_day = rng.normal(0, 1, len(STATISTICS))
        for hour in range(0, 24, 2):
            values = dict(zip(STATISTICS, 100 + of_day + rng.normal(0, 0.1, len(STATISTICS)), strict=True))
            for name, (from_day, by) in moved.items():
                values[name] += by if day >= from_day else 0.0
            at_us = START_US + day * DAY_US + hour * HOUR_US
            rows.append(FeatureRow(machine, "", at_us, at_us, _row(values, state)))
    write_rows(features, rows)


def _row(statistics: dict[str, float], state: str) -> tuple:
    known = {**statistics, "alert_state": state}
    empty = {"float64": 0.0, "int64": 0}
    return tuple(known.get(one.name, empty.get(one.kind, "")) for one in fields.FIELDS)


def test_a_statistic_that_has_moved_is_told_with_when_and_how_far(archive: Archive, features: Path) -> None:
    name = STATISTICS[3]
    write(features, {name: (34, 9.0)})
    found = kept(archive, features).drifts(MACHINE, EVER)
    assert [one.name for one in found] == [name]
    assert found[0].deviations > 4
    assert 30 <= (found[0].since_us - START_US) / DAY_US <= 34


def test_statistics_that_only_differ_between_days_have_not_drifted(archive: Archive, features: Path) -> None:
    write(features, {})
    assert kept(archive, features).drifts(MACHINE, EVER) == []


def test_frames_that_are_not_normal_do_not_tell_of_a_drift(archive: Archive, features: Path) -> None:
    write(features, {}, state="normal")
    write(features, {STATISTICS[3]: (0, 30.0)}, state="alert", first_day=34)  # in place of the calm days
    assert kept(archive, features).drifts(MACHINE, EVER) == []


def test_other_machines_and_what_came_before_the_baseline_are_not_asked(archive: Archive, features: Path) -> None:
    write(features, {STATISTICS[3]: (34, 9.0)}, machine="fan-1")
    write(features, {STATISTICS[3]: (30, 9.0)})
    one = kept(archive, features)
    assert one.drifts(MACHINE, EVER) != []
    assert one.drifts(MACHINE, Span(START_US + 30 * DAY_US, None)) == []


def test_without_a_history_nothing_has_drifted(archive: Archive, features: Path) -> None:
    assert kept(archive, features).drifts(MACHINE, EVER) == []


def test_a_baseline_that_has_learnt_it_is_held_against_itself(archive: Archive, features: Path) -> None:
    name = STATISTICS[3]
    write(features, {name: (20, 9.0)})
    one = kept(archive, features)
    assert [each.name for each in one.drifts(MACHINE, Span(START_US, START_US + 19 * DAY_US))] == [name]
    assert one.drifts(MACHINE, Span(START_US, START_US + 36 * DAY_US)) == []


# Bands


def in_bands(hours: range, raised: dict[int, int]) -> list:
    """Frames whose level in some bands is higher by so many dB than in others that vary by 2 dB."""
    found = []
    for hour in hours:
        one = entry(hour * HOUR_S, machine=MACHINE)
        levels = [-50 + 2 * ((hour + band) % 2) + raised.get(band, 0) for band in range(16)]
        found.append(replace(one, spectrum=tuple(levels)))
    return found


def test_bands_that_have_moved_since_are_told_by_how_much_of_it_is_theirs(archive: Archive, features: Path) -> None:
    put(archive, [*in_bands(range(20), {}), *in_bands(range(20, 40), {9: 9, 10: 9, 3: -3})])
    bands = kept(archive, features).moved_bands(MACHINE, START_US, START_US + 20 * HOUR_US)
    assert [round(one.share, 2) for one in bands] == [0.86, 0.14]
    rate_hz = in_bands(range(1), {})[0].rate_hz
    edges = band_edges_hz(rate_hz)
    assert (edges[0, 0], edges[-1, 1]) == (rate_hz / 512, rate_hz / 2)
    assert (bands[0].from_hz, bands[0].to_hz) == (edges[9, 0], edges[10, 1])
    assert (bands[1].from_hz, bands[1].to_hz) == (edges[3, 0], edges[3, 1])


def test_without_recordings_of_both_times_no_bands_are_told(archive: Archive, features: Path) -> None:
    one = kept(archive, features)
    assert one.moved_bands(MACHINE, START_US, START_US + HOUR_US) == ()
    put(archive, in_bands(range(20), {}))
    assert one.moved_bands(MACHINE, START_US, START_US + 20 * HOUR_US) == ()
    assert one.moved_bands(MACHINE, START_US, START_US + 10 * HOUR_US) == ()  # nothing has moved
