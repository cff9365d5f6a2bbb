"""What may be learnt around incidents, and what verdicts change in that."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from schemas import Alert
from schemas.verdict import Verdict
from tests.trainer.learning.stories import HOUR_US, NOW_US, alert, verdict
from trainer.learning.machine_incidents import MachineIncidents
from trainer.learning.spans import Span, any_holds, merged

MARGIN_US = HOUR_US


def _spans(incidents: MachineIncidents) -> list[tuple[float | None, float | None, str]]:
    """Spans in hours after noon."""
    return [(_hours(one.span.from_us), _hours(one.span.until_us), one.why) for one in incidents.unlearnable(MARGIN_US)]


def _hours(at_us: int | None) -> float | None:
    return None if at_us is None else (at_us - NOW_US) / HOUR_US


def test_nothing_near_an_open_incident_is_learnt_nor_near_a_closed_one() -> None:
    incidents = MachineIncidents()
    incidents.hear(alert("opened", 5))
    assert _spans(incidents) == [(4, None, "incident")]
    incidents.hear(alert("closed", 8))
    assert _spans(incidents) == [(4, 9, "incident")]
    assert incidents.open == []


def test_a_shift_begins_where_its_evidence_did_and_lasts_beyond_the_alarm() -> None:
    incidents = MachineIncidents()
    incidents.hear(alert("changed", 5, since_h=2))
    incidents.hear(alert("opened", 6, since_h=2))
    incidents.hear(alert("closed", 7, level="early", since_h=2))
    assert _spans(incidents) == [(1, None, "incident")]
    incidents.hear(alert("settled", 9, since_h=2))
    assert _spans(incidents) == [(1, 10, "incident")]


@pytest.mark.parametrize(
    ("word", "since_h", "expected"),
    [
        ("seen", None, [(4, 9, "incident")]),
        ("false_alarm", None, []),
        ("confirmed", None, [(4, 9, "fault")]),
        ("repaired", 10, [(4, 10, "before_repair")]),
        ("new_normal", 6, [(4, 6, "before_new_normal")]),
        ("withdrawn", None, [(4, 9, "incident")]),
    ],
)
def test_a_verdict_says_what_is_learnt_of_an_incident(word: str, since_h: float | None, expected: list[object]) -> None:
    events: list[Alert | Verdict] = [alert("opened", 5), alert("closed", 8), verdict(word, 12, since_h=since_h)]
    for order in permutations(events):  # topics are read one after the other
        incidents = MachineIncidents()
        for event in order:
            incidents.say(event) if isinstance(event, Verdict) else incidents.hear(event)
        assert _spans(incidents) == expected


def test_the_newest_verdict_counts_in_whatever_order_they_are_read() -> None:
    for order in permutations([verdict("false_alarm", 9), verdict("confirmed", 12), verdict("withdrawn", 10)]):
        incidents = MachineIncidents()
        incidents.hear(alert("opened", 5))
        for one in order:
            incidents.say(one)
        assert [why for *_, why in _spans(incidents)] == ["fault"]


def test_a_verdict_on_an_incident_whose_alerts_are_gone_counts() -> None:
    incidents = MachineIncidents()
    incidents.say(replace(verdict("confirmed", 12), ended_at="2026-01-31T20:00:00.000000Z"))
    assert _spans(incidents) == [(4, 9, "fault")]


def test_a_new_baseline_begins_where_the_newest_word_says() -> None:
    incidents = MachineIncidents()
    assert incidents.asked() is None
    incidents.say(verdict("repaired", 12, since_h=10))
    incidents.say(verdict("new_normal", 30, since_h=20, incident="b" * 32))
    assert incidents.asked() == (NOW_US + 20 * HOUR_US, "new_normal")
    incidents.say(verdict("withdrawn", 31, incident="b" * 32))
    assert incidents.asked() == (NOW_US + 10 * HOUR_US, "repaired")


def test_faults_are_told_with_what_they_were() -> None:
    incidents = MachineIncidents()
    incidents.hear(alert("opened", 5))
    incidents.say(replace(verdict("repaired", 12, since_h=10), fault="bearing"))
    assert incidents.faults() == [(Span(NOW_US + 5 * HOUR_US, NOW_US + 10 * HOUR_US), "bearing")]


def test_a_fault_of_one_frame_holds_that_frame() -> None:
    """Mode ``every``: its one alert begins and ends the incident."""
    incidents = MachineIncidents()
    incidents.hear(replace(alert("anomalous", 5), level=None))
    incidents.say(verdict("confirmed", 12))
    ((span, _),) = incidents.faults()
    assert span.holds(NOW_US + 5 * HOUR_US)
    assert span.until_us is not None
    assert span.until_us > span.from_us


def test_a_fault_that_was_mended_before_it_was_told_was_there_from_its_beginning() -> None:
    incidents = MachineIncidents()
    incidents.hear(alert("changed", 5, since_h=3))
    incidents.say(verdict("repaired", 12, since_h=4))
    assert incidents.faults() == [(Span(NOW_US + 3 * HOUR_US, NOW_US + 4 * HOUR_US), None)]


def test_spans_join_where_they_meet_and_an_open_one_swallows_the_rest() -> None:
    assert merged([Span(5, 7), Span(1, 3), Span(2, 4), Span(4, 5)]) == [Span(1, 7)]
    assert merged([Span(1, None), Span(5, 7)]) == [Span(1, None)]
    assert merged([Span(1, 2), Span(4, None)]) == [Span(1, 2), Span(4, None)]
    assert [any_holds([Span(1, 3)], at) for at in (0, 1, 2, 3)] == [False, True, True, False]
    assert Span(1, 3).meets(Span(2, None))
    assert not Span(1, 3).meets(Span(3, 5))
