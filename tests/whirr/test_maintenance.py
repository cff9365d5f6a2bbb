"""Maintenance windows: which are refused, when they are on, and how long a machine may be unheard beside them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from whirr.maintenance import Maintenance, MaintenanceWindow

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAILY = "FREQ=DAILY"
EVERY_HOUR = f"FREQ=DAILY;BYHOUR={','.join(map(str, range(24)))}"


def window(**changes: Any) -> MaintenanceWindow:
    given = {"match": "pump-*", "start": "2026-03-02T22:00:00", "duration": "1h", "timezone": "Europe/Berlin"}
    return MaintenanceWindow(**{**given, **changes})


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def begins(of: MaintenanceWindow, from_: str, count: int) -> list[str]:
    found = Maintenance([of]).coming(us(from_), count)[0]
    return [datetime.fromtimestamp(one.begin_us / 1e6, UTC).strftime("%m-%dT%H:%M") for one in found]


def is_on(maintenance: Maintenance, at: str, machine: str = "pump-1") -> bool:
    return maintenance.active(machine, us(at)) is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"match": "pump 7"}, "no machine's id can have ' '"),
        ({"start": "1999-12-31T00:00:00"}, "start is 1999-12-31 00:00:00; expected a year from 2000 to 2099"),
        ({"timezone": None}, "start is 2026-03-02 22:00:00; expected an offset with it"),
        ({"timezone": "Europe/Atlantis"}, "timezone is 'Europe/Atlantis'; expected the name of one"),
        ({"duration": "0h"}, "duration is '0h'; expected 1s to 366d"),
        ({"duration": "367d"}, "duration is '367d'; expected 1s to 366d"),
        ({"duration": "an hour"}, "duration is 'an hour'; expected a duration such as 30s"),
        ({"rule": ""}, "rule is ''; expected a rule of RFC 5545"),
        ({"rule": "every day"}, "rule is 'every day', with 'every day'"),
        ({"rule": "FREQ=DAILY;DTSTART=20260101T000000Z"}, "with 'DTSTART'; it is what start says"),
        ({"rule": "FREQ=DAILY\nEXDATE:20260101T000000"}, "expected a rule of RFC 5545"),
        ({"rule": "FREQ=DAILY;FREQ=WEEKLY"}, "with FREQ twice"),
        ({"rule": "FREQ=DAILY;BYEASTER=1"}, "with 'BYEASTER'"),
        ({"rule": "BYDAY=MO"}, "expected FREQ as one of DAILY, WEEKLY"),
        ({"rule": "FREQ=SECONDLY"}, "expected FREQ as one of DAILY, WEEKLY"),
        ({"rule": "FREQ=HOURLY;COUNT=3"}, "expected FREQ as one of DAILY, WEEKLY"),
        ({"rule": "FREQ=DAILY;INTERVAL=0"}, "expected INTERVAL as a whole number of at least 1"),
        ({"rule": "FREQ=DAILY;COUNT=-1"}, "expected COUNT as a whole number of at least 1"),
        ({"rule": "FREQ=DAILY;UNTIL=20261231"}, "expected UNTIL in UTC, such as"),
        ({"rule": "FREQ=WEEKLY;BYDAY=XX"}, "'FREQ=WEEKLY;BYDAY=XX', which can't be used"),
        ({"rule": "FREQ=DAILY;BYHOUR=25"}, "which can't be used: hour must be in"),
        ({"rule": f"{EVERY_HOUR};BYMINUTE=0,30"}, "comes more than 24 times a day"),
        ({"rule": "FREQ=DAILY;UNTIL=20260302T205959Z"}, "never comes from 2026-03-02 22:00:00 on"),
        ({"rule": "FREQ=DAILY;" + "BYDAY=MO" + ",MO" * 200}, "characters; expected at most 500"),
    ],
)
def test_what_cant_be_meant_is_refused_with_its_value(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        window(**changes)
    assert told in str(caught.value)


@pytest.mark.parametrize("part", ["BYMONTH=2;BYMONTHDAY=30", "BYMONTHDAY=32", "INTERVAL=7;BYDAY=TU", "BYWEEKNO=54"])
@pytest.mark.parametrize("frequency", ["DAILY", "YEARLY"])
def test_a_rule_that_never_comes_is_refused_soon(frequency: str, part: str) -> None:
    if frequency == "YEARLY" and "INTERVAL" in part:
        part = "BYMONTHDAY=31;BYMONTH=4"
    began_s = time.perf_counter()
    with pytest.raises(ValidationError, match="never comes"):
        window(rule=f"FREQ={frequency};{part}")
    assert time.perf_counter() - began_s < 5, "to the year 9999, day by day, it would be much longer"


@pytest.mark.parametrize("rule", [f"{EVERY_HOUR};COUNT=999999999", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO"])
def test_a_rule_costs_no_more_than_it_is_asked_for(rule: str) -> None:
    began_s = time.perf_counter()
    maintenance = Maintenance([window(rule=rule)])
    is_on(maintenance, "2026-03-02T22:00:00+01:00")
    assert time.perf_counter() - began_s < 1
    assert is_on(maintenance, "9999-12-01T00:00:00+00:00") is False


def test_a_window_that_is_on_once() -> None:
    once = Maintenance([window(start="2026-03-02T22:00:00+01:00", timezone=None)])
    found = [
        is_on(once, f"2026-03-0{day}T{clock}+01:00") for day in (1, 2, 3) for clock in ("21:59:59.999999", "22:00")
    ]
    assert found == [False, False, False, True, False, False]
    assert is_on(once, "2026-03-02T22:59:59.999999+01:00")
    assert not is_on(once, "2026-03-02T23:00:00+01:00")
    assert not is_on(once, "2026-03-02T22:30:00+01:00", machine="fan-1")


def test_a_rule_follows_the_clocks_of_its_timezone() -> None:
    weekly = window(start="2026-03-07T22:00:00", rule="FREQ=WEEKLY;BYDAY=SA")
    assert begins(weekly, "2026-03-20T00:00:00+00:00", 3) == ["03-21T21:00", "03-28T21:00", "04-04T20:00"]
    autumn = begins(weekly, "2026-10-20T00:00:00+00:00", 2)
    assert autumn == ["10-24T20:00", "10-31T21:00"]
    fixed = window(start="2026-03-07T22:00:00+01:00", timezone=None, rule="FREQ=WEEKLY")
    assert begins(fixed, "2026-03-27T00:00:00+00:00", 2) == ["03-28T21:00", "04-04T21:00"]
    elsewhere = window(start="2026-03-07T16:00:00-05:00", rule="FREQ=WEEKLY")
    assert begins(elsewhere, "2026-03-27T00:00:00+00:00", 2) == ["03-28T21:00", "04-04T20:00"]


def test_local_times_that_dont_exist_or_come_twice() -> None:
    nightly = window(start="2026-03-27T02:30:00", rule=DAILY)
    assert begins(nightly, "2026-03-28T00:00:00+00:00", 3) == ["03-28T01:30", "03-29T01:30", "03-30T00:30"]
    assert begins(nightly, "2026-10-24T00:00:00+00:00", 3) == ["10-24T00:30", "10-25T00:30", "10-26T01:30"]
    # When clocks are put forward at 2, 2:45 is 3:45, and so after 3:15.
    turned = Maintenance(
        [window(start="2026-03-28T02:45:00", duration="10m", rule="FREQ=DAILY;BYHOUR=2,3;BYMINUTE=15,45")]
    )
    times = [f"2026-03-29T01:{minute:02}:00+00:00" for minute in (14, 16, 26, 44, 46, 56)]
    assert [is_on(turned, one) for one in times] == [False, True, False, False, True, False]


def test_hours_are_elapsed_ones_where_clocks_change_within() -> None:
    night = Maintenance([window(start="2026-03-01T22:00:00", duration="8h", rule=DAILY)])
    assert is_on(night, "2026-03-29T06:59:00+02:00"), "eight hours after 22:00, in a night with seven"
    assert not is_on(night, "2026-03-29T07:00:00+02:00")
    occurrence = night.active("pump-1", us("2026-03-29T00:00:00+00:00"))
    assert occurrence is not None
    assert occurrence.end_us - occurrence.begin_us == 8 * HOUR_US


def test_until_is_in_utc_and_the_last_occurrence_may_begin_at_it() -> None:
    assert begins(window(rule="FREQ=DAILY;UNTIL=20260304T210000Z"), "2026-03-01T00:00:00+00:00", 9) == [
        "03-02T21:00",
        "03-03T21:00",
        "03-04T21:00",
    ]


def test_the_first_that_a_rule_matches_is_the_first_there_is() -> None:
    assert begins(window(rule="FREQ=WEEKLY;BYDAY=FR;COUNT=2"), "2026-01-01T00:00:00+00:00", 9) == [
        "03-06T21:00",
        "03-13T21:00",
    ]


def test_a_window_may_overlap_itself_and_others() -> None:
    days = Maintenance([window(duration="3d", rule=DAILY, note="a"), window(match="*", duration="1d", note="b")])
    for at in ("2026-03-02T22:00:00+01:00", "2026-03-20T12:00:00+01:00"):
        occurrence = days.active("pump-1", us(at))
        assert occurrence is not None
        assert occurrence.window.note == "a", "the first counts"
        assert occurrence.begin_us <= us(at) < occurrence.begin_us + 24 * HOUR_US, "the last that began"
    other = days.active("fan-1", us("2026-03-03T12:00:00+01:00"))
    assert other is not None
    assert other.window.note == "b"


def test_answers_dont_depend_on_the_order_of_the_questions() -> None:
    times = [us("2026-03-20T00:00:00+00:00") + step * 17 * MINUTE_US for step in range(500)]
    asked = Maintenance([window(rule=DAILY), window(start="2026-03-22T00:00:00", duration="3h", rule="FREQ=WEEKLY")])
    forwards = [asked.active("pump-1", at_us) for at_us in times]
    assert [asked.active("pump-1", at_us) for at_us in reversed(times)] == forwards[::-1]
    assert [Maintenance(asked.windows).active("pump-1", at_us) for at_us in times] == forwards
    assert 0 < sum(found is not None for found in forwards) < 100


@pytest.mark.parametrize(
    ("last_heard", "due"),
    [
        ("20:00", "20:10"),
        ("21:48", "21:58"),
        ("21:55", "23:10"),
        ("22:30", "23:10"),
        ("22:59", "23:10"),
        ("23:05", "23:15"),
    ],
)
def test_a_machine_has_its_time_anew_after_a_window(last_heard: str, due: str) -> None:
    maintenance = Maintenance([window(rule=DAILY)])
    since_us, due_us = us(f"2026-03-05T{last_heard}:00+01:00"), us(f"2026-03-05T{due}:00+01:00")
    assert maintenance.unheard_due_us("pump-1", since_us, 10 * MINUTE_US) == due_us
    assert maintenance.unheard_due_us("fan-1", since_us, 10 * MINUTE_US) == since_us + 10 * MINUTE_US


def test_windows_that_follow_each_other_closely_hide_no_silence_for_ever() -> None:
    since_us = us("2026-03-05T12:00:00+01:00")
    daily = Maintenance([window(rule=DAILY)])
    assert daily.unheard_due_us("pump-1", since_us, 24 * HOUR_US) == pytest.approx(since_us + 50 * HOUR_US, abs=1e6)
    always = Maintenance([window(duration="2d", rule=DAILY)])
    assert always.unheard_due_us("pump-1", since_us, HOUR_US) is None
