"""What an operator sees of a row, from its alerts."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.operator import FAULTY, NEITHER, NORMAL, Seen, judged, recordings_of
from schemas import Alert, AlertModel, format_rfc3339
from schemas.alert import AlertState, Severity
from tests.helpers import SHARED_DATA, needs_shared_data

KINDS = np.array([NORMAL] * 10 + [NEITHER] * 5 + [FAULTY] * 10)
SCORES = np.array([1.0] * 15 + [2.0] * 10)


def alert(place: int, state: AlertState, level: Severity | None) -> tuple[int, Alert]:
    return place, Alert(
        alert_id=f"{place:032x}",
        incident_id="0" * 32,
        kind="machine",
        sensor_fault=None,
        machine_id="pump-1",
        source=None,
        state=state,
        severity=level or "warning",
        score=1.0,
        threshold=1.0,
        ratio=1.0,
        recorded_at=format_rfc3339(0),
        scored_at=format_rfc3339(0),
        frame=None,
        model=AlertModel(name="tiny", version="1", run_id=None),
        bands=(),
        statistics={},
        level=level,
    )


def seen(*alerts: tuple[int, Alert]) -> Seen:
    return judged(SCORES, KINDS, alerts)


def test_an_early_finding_and_its_alarm_in_the_fault() -> None:
    one = seen(alert(17, "changed", "early"), alert(20, "opened", "warning"), alert(23, "closed", "early"))
    assert (one.found, one.delay_frames, one.covered, one.alarm_covered) == ("alarm", 2, 0.8, 0.3)
    assert (one.false_early, one.false_alarms, one.open_before) == (0, 0, False)
    assert (one.normal_frames, one.faulty_frames, one.auc) == (10, 10, 1.0)
    assert one.as_wanted


def test_what_began_at_normal_frames_is_false_and_finds_nothing() -> None:
    one = seen(alert(3, "changed", "early"))
    assert (one.found, one.delay_frames, one.covered, one.open_before) == ("", None, 1.0, True)
    assert one.false_early == 1
    assert not one.as_wanted


def test_what_begins_before_a_life_ends_comes_early_enough() -> None:
    one = seen(alert(12, "changed", "early"))
    assert (one.found, one.delay_frames, one.covered) == ("early", -3, 1.0)


def test_nothing_is_nothing() -> None:
    assert (seen().found, seen().covered) == ("", 0.0)


@needs_shared_data
@pytest.mark.parametrize("row", ["femto/Bearing3_1", "motor/motor"])
def test_all_that_does_not_train_is_played_in_order(row: str) -> None:
    parts, played = recordings_of(row, SHARED_DATA, SHARED_DATA)
    train = parts.train
    assert not set(train) & {one.path for one in played}
    kinds = [one.kind for one in played]
    assert kinds == sorted(kinds)
    if row.startswith("femto"):
        assert len(train) + len(played) == len(list((SHARED_DATA / row).iterdir()))
