"""The anchor: wear that creeps past every later baseline does not creep past the first one."""

from __future__ import annotations

import numpy as np
import pytest

from schemas import Calibration, Thresholds
from trainer.early import early_test
from trainer.learning.anchor import departure

DAY_US = 86_400_000_000
CALIBRATION = Calibration(frame_s=1.0, k=3, n=5, false_alerts_per_30_days=1.0, decision_percentile=95.0, every_s=1800.0)


def _thresholds(normals: np.ndarray) -> Thresholds:
    test = early_test([normals], CALIBRATION)
    assert not isinstance(test, str)
    return Thresholds(decision_threshold=2.0, alert_threshold=10.0, normals=len(normals), early=test)


def _moments(count: int) -> list[int]:
    return [round(number * DAY_US / 48) for number in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_what_stays_normal_has_not_left(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = departure(_thresholds(rng.gamma(8, 1, 300)), _moments(1440), rng.gamma(8, 1, 1440).tolist())
    assert found.since_us is None
    assert abs(found.distance) < 0.6


@pytest.mark.parametrize("seed", range(5))
def test_slow_wear_has_left_before_it_has_moved_far(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wear = np.linspace(0, 4, 1440) * np.sqrt(8)  # deviations, over 30 days
    found = departure(_thresholds(rng.gamma(8, 1, 300)), _moments(1440), (rng.gamma(8, 1, 1440) + wear).tolist())
    assert found.since_us is not None
    assert found.since_us < 15 * DAY_US  # it had moved by less than two deviations
    assert found.distance > 3
    assert found.per_day == pytest.approx(4 / 30, rel=0.3)


def test_an_excursion_that_is_over_has_not_left() -> None:
    rng = np.random.default_rng(1)
    values = rng.gamma(8, 1, 1440)
    values[480:528] += 12.0
    thresholds = _thresholds(rng.gamma(8, 1, 300))
    assert departure(thresholds, _moments(540), values[:540].tolist()).since_us is not None
    assert departure(thresholds, _moments(1440), values.tolist()).since_us is None


def test_without_a_test_days_above_what_one_normal_in_twenty_exceeds_have_left() -> None:
    thresholds = Thresholds(decision_threshold=2.0, alert_threshold=10.0, normals=30)
    moments = _moments(48 * 6)
    calm, worn = [1.0] * 48 * 6, [1.0] * 48 * 3 + [2.5] * 48 * 3
    assert departure(thresholds, moments, calm).since_us is None
    assert departure(thresholds, moments, worn).since_us == 3 * DAY_US


def test_nothing_heard_is_no_departure() -> None:
    assert departure(Thresholds(decision_threshold=1, alert_threshold=2, normals=5), [], []).since_us is None
