"""Times in names: what is one, and what isn't."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordings.name_times import NoTimestamp, time_in
from recordings.pattern import Pattern
from schemas.errors import SettingsError
from schemas.times import format_rfc3339, parse_rfc3339

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"
BERLIN = ZoneInfo("Europe/Berlin")
DOCUMENTED = re.findall(r"^\| `([^`]+)` \| (no time|\d{4}-\d\d-\d\dT[\d:.]+Z) \|", DOCS.read_text(), re.MULTILINE)
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1))


def read(text: str, zone=BERLIN) -> str | None:
    found = time_in(text, zone)
    return None if isinstance(found, NoTimestamp) else format_rfc3339(found)


@pytest.mark.parametrize(("text", "time"), DOCUMENTED)
def test_the_documentations_forms(text: str, time: str):
    assert read(text) == (None if time == "no time" else format_rfc3339(parse_rfc3339(time)))


def test_the_documentation_has_a_table():
    assert len(DOCUMENTED) > 30
    assert sum(time == "no time" for _, time in DOCUMENTED) > 8


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31T12:00:00+0530", "2026-01-31T06:30:00Z"),
        ("2026-01-31T12:00:00-03:30", "2026-01-31T15:30:00Z"),
        ("20260131T120000-0001", "2026-01-31T11:00:00Z"),  # a counter
        ("2026-01-31_12-00-00-0030", "2026-01-31T11:00:00Z"),
        ("2026-01-31_12-00-00-0046", "2026-01-31T11:00:00Z"),
        ("2026-01-31_12-00-00-1234", "2026-01-31T11:00:00Z"),
        ("2026-01-31_12-00-00-00100", "2026-01-31T11:00:00Z"),
        ("2026-01-31_12-00-00-0100", None),
        ("20260131_120000-0130", None),
        ("2026-01-31_12-00-00+0101", None),
        ("2026-01-31T12:00:00+01", None),
        ("2026-01-31T12:00:00-01", None),
        ("2026-01-31T12:00:00UTC+2", None),
        ("2026-01-31T12:00:00 UTC+02:00", "2026-01-31T10:00:00Z"),
        ("2026-01-31 00.30.00 PM", None),
        ("2026-01-31 13.00.00 PM", "2026-01-31T12:00:00Z"),
        ("2026-01-31 11.59.50 a.m.", "2026-01-31T10:59:50Z"),
        ("20260131_120000_pm7", "2026-01-31T11:00:00Z"),  # a pump
        ("20260131_120000_z", "2026-01-31T11:00:00Z"),  # an axis
        ("31-01-2026_11-12-13_14-15-16", "2026-01-31T10:12:13Z"),
        ("01022026_120000", None),
        ("2026-02-30_12-00-00", None),
        ("2026-01-31_24-00-00", None),
        ("2026-01-31_12-00-00_20251105123456", "2026-01-31T11:00:00Z"),
        ("20251105123456_20251105123457", None),
        ("SN-1012345670", None),
        ("pump-1_1769857200", None),
        ("t 1769857200 pump", "2026-01-31T11:00:00Z"),
        ("rec_unix1769857200", "2026-01-31T11:00:00Z"),
        ("Epoch-1769857200250", "2026-01-31T11:00:00.25Z"),
        ("port-1769857200", None),
        ("ok_1769857200_normal", "2026-01-31T11:00:00Z"),
        ("SN1769857200", None),  # a serial number
        ("normal_20260329_000039_1152000", "2026-03-28T23:00:39Z"),
        ("20260131T120000.000000Z_17698572", "2026-01-31T12:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("normal_id_00_00000007", None),
        ("section_00_source_test_anomaly_0007_1", None),
    ],
)
def test_other_times(text: str, time: str | None):
    assert read(text) == (None if time is None else format_rfc3339(parse_rfc3339(time)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("20261025_021000", r"comes twice in Europe/Berlin"),
        ("20260329_021000", r"does not come in Europe/Berlin"),
        ("05.01.2026 12.00.00", r"day and month of '05.01.2026'"),
        ("2026-01-31_12-00-00-0500", r"may be an offset or a counter"),
        ("20260131_120000_20260131_120010", r"two times, '20260131_120000' and '20260131_120010'"),
    ],
)
def test_why_there_is_no_time(text: str, reason: str):
    found = time_in(text, BERLIN)
    assert isinstance(found, NoTimestamp)
    assert re.search(reason, found.reason)


@given(
    moment=MOMENTS,
    fraction=st.from_regex(r"(\.[0-9]{1,9})?", fullmatch=True),
    hours=st.integers(-14, 14),
    minutes=st.sampled_from(["00", "30", "45"]),
)
def test_a_time_of_the_wire_is_the_same_in_a_name(moment, fraction, hours, minutes):
    offset = f"{hours:+03}:{'00' if abs(hours) == 14 else minutes}" if hours else "Z"
    text = f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}{offset}"
    assert time_in(text, BERLIN) == parse_rfc3339(text)


@pytest.mark.parametrize("count", range(200))
def test_a_counter_never_moves_a_time(count: int):
    assert read(f"2026-01-31_12-00-00-{count:04}", UTC) in {"2026-01-31T12:00:00.000000Z", None}


@given(
    moment=MOMENTS,
    form=st.sampled_from(
        [
            "%Y%m%d_%H%M%S_%f",
            "%Y-%m-%d_%H-%M-%S",
            "%Y%m%dT%H%M%S",
            "%Y.%m.%d %H.%M.%S",
            "%Y-%m-%dT%H:%M:%S.%f",
            "%Y-%m-%d %I.%M.%S %p",
            "%Y%m%d-%H%M%S",
            "%Y-%m-%d_%Hh%Mm%S",
            "%d.%m.%Y %H.%M.%S",
            "%m-%d-%Y_%H-%M-%S",
            "%d%m%Y_%H%M%S",
            "%Y%m%dT%H%M%SZ",
            "%Y-%m-%d %H:%M:%S+00:00",
        ]
    ),
    before=st.sampled_from(["", "pump_", "normal-7_", "mic 1 "]),
    after=st.sampled_from(["", "_pump", "-a", " b", "_x7"]),
)
def test_what_strftime_writes_is_read_or_no_time(moment, form, before, after):
    found = time_in(before + moment.strftime(form) + after, UTC)
    meant = moment if "%f" in form else moment.replace(microsecond=0)
    told = int((meant.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    if "%d.%m" in form or "%m-%d-%Y" in form or "%d%m%Y" in form:
        assert found == told or isinstance(found, NoTimestamp)
        assert moment.day <= 12 or "%d%m%Y" in form or found == told
    else:
        assert found == told


@given(st.text(alphabet="0123456789-_.: TZ+APMh", max_size=60))
def test_any_text_has_an_answer(text: str):
    assert isinstance(time_in(text, BERLIN), int | NoTimestamp)


@pytest.mark.parametrize(
    ("template", "stem", "time"),
    [
        ("*_{time:%d.%m.%Y_%H%M%S}", "a/x_05.01.2026_120000", "2026-01-05T11:00:00Z"),
        ("{machine}/{time:%Y-%m-%d/%H-%M-%S}", "p/2026-01-31/12-00-00", "2026-01-31T11:00:00Z"),
        ("{time:%y%m%d %I.%M %p}*", "260131 01.30 PM x", "2026-01-31T12:30:00Z"),
        ("{time:%Y-%m-%d_%H-%M-%S}-*", "2026-01-31_12-00-00-0500", "2026-01-31T11:00:00Z"),
        ("{time:%d-%b-%Y %H%M%S%z}", "31-Jan-2026 120000-0500", "2026-01-31T17:00:00Z"),
        ("{time:%d.%m.%Y_%H%M%S}", "31.02.2026_120000", None),
        ("{time:%Y%m%d_%H%M%S}", "20261025_023000", None),
    ],
)
def test_a_pattern_states_the_form_of_times(template: str, stem: str, time: str | None):
    named = Pattern(template).read(stem, BERLIN)
    assert named is not None
    found = named.start if isinstance(named.start, int) else None
    assert found == (None if time is None else parse_rfc3339(time))


@pytest.mark.parametrize("form", ["%Y%m%d", "%H%M%S", "%Q%m%d%H%M", "%Y%m%d_%I%M", "%Y%m%d%H%M%M", "%"])
def test_a_form_that_is_no_time_is_refused(form: str):
    with pytest.raises(SettingsError, match="pattern"):
        Pattern("{time:" + form + "}")
