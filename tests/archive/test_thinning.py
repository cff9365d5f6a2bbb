"""Thinning: rare states survive, repeats go, and whoever thins the same keeps the same."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

import archive
from archive.entries import DAY_US, HOUR_US, ArchiveEntry
from archive.operating_states import spectrum_of
from archive.thinning import MOST_ORDERED, order, thin
from recordings import Audio
from schemas.condition import Condition
from tests.archive.kept import entry
from tests.models import START_US, encoded, noise, record

DAY_S = 86_400
AFTER_US = START_US + 3 * DAY_US
MOST = 60


def plant_day(every_s: int = 10) -> list[ArchiveEntry]:
    """A day of one machine: it runs at two loads, stands at night, and is started in a minute of its own kind."""
    found = []
    for second in range(0, DAY_S, every_s):
        hour = second // 3600
        if 21_600 <= second < 21_660:
            level, condition = -45.0, Condition(700.0, 5.0)  # starting up
        elif hour < 6 or hour >= 22:
            level, condition = -75.0, Condition(None, None)
        elif hour < 15:
            level, condition = -30.0, Condition(1480.0, 80.0)
        else:
            level, condition = -36.0, Condition(1480.0, 40.0)
        found.append(entry(second, level, condition=condition))
    return found


def states(entries: Sequence[ArchiveEntry]) -> Counter[float]:
    return Counter(one.level_dbfs for one in entries)


def by_hash(entries: Sequence[ArchiveEntry], most: int, _: int) -> list[ArchiveEntry]:
    """Uniform sampling: what thinning has to be better than."""
    return sorted(entries, key=lambda one: one.frame_id)[:most]


def keeps_rare_states(chosen: Callable[[Sequence[ArchiveEntry], int, int], list[ArchiveEntry]]) -> bool:
    day = plant_day()
    rare = [(-45.0, 6)]
    assert all(states(day)[level] == count for level, count in rare)
    kept = chosen(day, MOST, AFTER_US)
    assert len(kept) == MOST
    return all(states(kept)[level] >= 1 for level, _ in rare) and len(states(kept)) == 4


def test_rare_states_survive_and_repeats_go():
    assert keeps_rare_states(thin)
    assert not keeps_rare_states(by_hash)


def test_what_was_there_for_long_is_spread_over_its_time():
    kept = thin(plant_day(), MOST, AFTER_US)
    hours = Counter(one.recorded_us // HOUR_US for one in kept)
    assert len(hours) == 24
    assert max(hours.values()) <= MOST // 4


def test_every_beginning_of_the_order_has_all_states():
    ordered = order(plant_day()[::4])
    assert len(states(ordered[:16])) == 4
    assert len({one.frame_id for one in ordered}) == len(ordered)


def test_the_order_depends_on_the_frames_alone():
    day = plant_day(40)
    mixed = random.Random(1).sample(day, len(day))
    assert order(mixed) == order(day)
    assert {one.frame_id for one in thin(mixed, 20, AFTER_US)} == {one.frame_id for one in thin(day, 20, AFTER_US)}


def test_it_does_not_matter_how_often_it_is_called():
    day = plant_day(20)
    at_once = thin(day, 30, AFTER_US)
    left = day
    for hour in range(30):
        left = thin(left, 30, START_US + hour * HOUR_US + 1)
    assert {one.frame_id for one in left} == {one.frame_id for one in at_once}
    assert thin(left, 30, AFTER_US) == left


def test_the_newest_hours_stay_whole():
    day = plant_day(20)
    kept = thin(day, 5, START_US + 12 * HOUR_US)
    assert [one for one in kept if one.recorded_us >= START_US + 12 * HOUR_US] == day[12 * 180 :]
    assert len(kept) == 12 * 5 + 12 * 180


def test_each_sensor_has_its_own_number():
    day = [entry(n, source=source) for n in range(0, 3600, 60) for source in ("a", "b")]
    assert Counter(one.source for one in thin(day, 7, AFTER_US)) == {"a": 7, "b": 7}


def test_equal_frames_are_spread_over_time():
    day = [entry(n, seed=1) for n in range(100)]
    same = [replace(one, spectrum=(-30,) * 16) for one in day]
    ordered = order(same)
    assert len({one.frame_id for one in ordered}) == 100
    times = sorted(one.recorded_us for one in ordered[:9])
    assert max(np.diff(times)) <= 26_000_000
    twice = order([*same, *same])  # even then it ends
    assert len(twice) == 200


def test_its_cost_has_a_bound():
    began_s = time.process_time()
    assert len(order(plant_day(4), 200)) == DAY_S // 4
    assert time.process_time() - began_s < 20  # of 21,600 frames: 4.3 million distances
    assert MOST_ORDERED == 1000


def test_spectra_tell_states_and_not_lengths():
    def of(samples: np.ndarray, rate_hz: int = 16_000) -> np.ndarray:
        return np.array(spectrum_of(Audio(samples.astype(np.float32), rate_hz)))

    quiet, loud = of(noise(1.0, 0.01)), of(noise(1.0, 0.1))
    assert np.abs(loud - quiet - 20).max() <= 3
    assert np.abs(of(noise(30.0, 0.01, seed=3)) - quiet).max() <= 4
    tone = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)[np.newaxis]
    assert of(tone).argmax() == 10  # of 16 bands from 31 to 8000 Hz
    assert spectrum_of(Audio(np.zeros((2, 10), np.float32), 100)) == (-120,) * 16


def test_an_entrys_state_is_in_words():
    loud = record(encoded(noise(0.5)), recorded_us=START_US, condition=Condition(1480.0, 62.0))
    assert archive.kept_frame(loud).entry.state.split() == ["-24dB", "q4", "1448rpm", "60load"]
