"""Frames' envelopes: what is taken, what is rejected and why, and identities."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ERROR_CODES, Condition, DeadLetter, FrameRecord, frame_headers, frame_id, parse_frame
from schemas.errors import FrameRejected
from tests.helpers import validate_headers

NOW_MS = 1_767_225_600_000
BARE = FrameRecord(b"pump-7", b"RIFF", (), NOW_MS)


def rejected(record):
    with pytest.raises(FrameRejected) as caught:
        parse_frame(record)
    assert caught.value.code in ERROR_CODES
    return caught.value


def test_a_bare_record_is_a_frame():
    frame = parse_frame(BARE)
    assert (frame.machine_id, frame.source, frame.sequence, frame.foreign_id) == ("pump-7", None, None, None)
    assert frame.recorded_us == NOW_MS * 1000
    assert frame.stream == ("pump-7", "")


def test_identity_is_a_digest_of_what_the_frame_is():
    digest = hashlib.sha256(b"pump-7\0mic\x001767225600000001\0RIFF").hexdigest()
    assert frame_id("pump-7", "mic", 1_767_225_600_000_001, b"RIFF") == digest[:32]


@given(
    st.text("abcXYZ019._:-", min_size=1, max_size=128),
    st.none() | st.text("ab/-_ é", min_size=1, max_size=20),
    st.integers(0, NOW_MS * 1000 + 300_000_000),
    st.binary(min_size=1, max_size=50),
    st.none() | st.integers(0, 10**18 - 1),
    st.builds(Condition, st.none() | st.floats(1e-9, 1e9), st.none() | st.floats(-1e9, 1e9)),
)
def test_own_producers_headers_come_back(machine_id, source, recorded_us, value, sequence, condition):
    headers = frame_headers(machine_id, source, recorded_us, value, sequence, condition=condition)
    validate_headers("frame", headers)
    frame = parse_frame(FrameRecord(machine_id.encode(), value, headers, NOW_MS))
    assert frame.frame_id == frame.foreign_id == frame_id(machine_id, source, recorded_us, value)
    assert (frame.machine_id, frame.source, frame.recorded_us) == (machine_id, source, recorded_us)
    assert frame.sequence == sequence
    assert frame.condition == condition


def test_how_the_machine_ran_is_no_part_of_a_frames_identity():
    told = parse_frame(replace(BARE, headers=[("ce_rpm", b"1478.5"), ("ce_load", b"-8e1")]))
    assert told.condition == Condition(1478.5, -80.0)
    assert told.frame_id == parse_frame(BARE).frame_id
    assert parse_frame(BARE).condition == Condition(None, None)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"key": None}, "key_missing", "no key"),
        ({"key": b""}, "key_missing", "no key"),
        ({"key": b"\xff\xfe"}, "key_invalid", "UTF-8"),
        ({"key": b"a" * 129}, "key_invalid", "129 characters"),
        ({"key": b"pump 7"}, "key_invalid", "pump 7"),
        ({"key": b"pump-7\n"}, "key_invalid", "pump-7"),
        ({"value": None}, "empty_value", "no value"),
        ({"value": b""}, "empty_value", "no value"),
        ({"value": bytes(1_000_001)}, "value_too_large", "1000001"),
        ({"headers": [("ce_time", b"yesterday")]}, "header_invalid", "yesterday"),
        ({"headers": [("ce_time", b"2026-01-01")]}, "header_invalid", "2026-01-01"),
        ({"headers": [("ce_time", b"2026-01-01T00:00:00")]}, "header_invalid", "RFC 3339"),
        ({"headers": [("ce_time", b"2026-01-01T00:05:00.000001Z")]}, "time_in_future", "5 minutes"),
        ({"headers": [("ce_source", b"\xff")]}, "header_invalid", "ce_source"),
        ({"headers": [("ce_source", b"a\0b")]}, "header_invalid", "printable"),
        ({"headers": [("ce_source", b"a" * 257)]}, "header_invalid", "257"),
        ({"headers": [("ce_sequence", b"-1")]}, "header_invalid", "-1"),
        ({"headers": [("ce_sequence", "٣".encode())]}, "header_invalid", "ce_sequence"),
        ({"headers": [("ce_sequence", b"9" * 19)]}, "header_invalid", "ce_sequence"),
        ({"headers": [("ce_rpm", b"")]}, "header_invalid", "ce_rpm is ''"),
        ({"headers": [("ce_rpm", b"0")]}, "header_invalid", "above 0"),
        ({"headers": [("ce_rpm", b"-1500")]}, "header_invalid", "-1500"),
        ({"headers": [("ce_rpm", b"1_500")]}, "header_invalid", "1_500"),
        ({"headers": [("ce_rpm", b"1e10")]}, "header_invalid", "1e10"),
        ({"headers": [("ce_load", b"nan")]}, "header_invalid", "ce_load is 'nan'"),
        ({"headers": [("ce_load", b"80%")]}, "header_invalid", "80%"),
        ({"headers": [("ce_load", "٨".encode())]}, "header_invalid", "ce_load"),
        ({"headers": [("ce_type", b"other.v1")]}, "header_invalid", "other.v1"),
        ({"headers": [("ce_time", b"1969-12-31T23:59:59Z")]}, "time_invalid", "1969"),
        ({"headers": [("ce_time", b"0001-01-01T00:00:00+00:01")]}, "time_invalid", "0001"),
        (
            {"headers": [("ce_time", b"9999-12-31T23:59:59-00:04")], "timestamp_ms": 253_402_300_799_999},
            "time_invalid",
            "9999",
        ),
        ({"headers": [("ce_id", b"a" * 257)]}, "header_invalid", "ce_id"),
        ({"headers": [("ce_id", b"\x01")]}, "header_invalid", "ce_id"),
        ({"timestamp_ms": -1}, "time_invalid", "-1"),
        ({"timestamp_ms": 2**62}, "time_invalid", str(2**62)),
    ],
)
def test_rejections_name_the_value(change, code, named):
    error = rejected(replace(BARE, **change))
    assert error.code == code
    assert named in error.detail


@pytest.mark.parametrize(
    ("text", "recorded_us"),
    [
        (b"2026-01-01T00:05:00Z", NOW_MS * 1000 + 300_000_000),
        (b"2025-12-31T23:00:00.5-01:00", NOW_MS * 1000 + 500_000),
        (b"2026-01-01t00:00:00.123456789z", NOW_MS * 1000 + 123_456),
        (b"1970-01-01T00:00:00Z", 0),
    ],
)
def test_recording_times(text, recorded_us):
    assert parse_frame(replace(BARE, headers=[("ce_time", text)])).recorded_us == recorded_us


def test_unknown_repeated_and_empty_headers_do_no_harm():
    headers: list[Any] = [(f"x-{i}", b"\xff" * 100) for i in range(100)]
    headers += [("ce_source", b"old"), ("ce_source", b"new"), ("ce_id", None), ("ce_specversion", b"9")]
    assert parse_frame(replace(BARE, headers=headers)).source == "new"
    assert parse_frame(replace(BARE, headers=[("ce_source", b"")])).source is None


@given(
    st.binary(max_size=200) | st.none(),
    st.binary(max_size=50) | st.none(),
    st.lists(
        st.tuples(
            st.sampled_from(["ce_type", "ce_id", "ce_source", "ce_time", "ce_sequence", "ce_rpm", "ce_load", "x"]),
            st.binary(max_size=40) | st.none(),
        ),
        max_size=8,
    ),
    st.integers(-(2**63), 2**63 - 1),
)
def test_any_record_is_a_frame_or_a_rejection(key, value, headers, timestamp_ms):
    caught = None
    try:
        parse_frame(FrameRecord(key, value, headers, timestamp_ms))
    except FrameRejected as error:
        caught = error
    assert caught is None or (caught.code in ERROR_CODES and caught.detail)


def test_dead_letters_fit_their_topic_whatever_the_record_held():
    letter = DeadLetter(code="value_too_large", detail="", record=replace(BARE, key=b"k" * 10**6, value=bytes(3 << 20)))
    assert (len(letter.key or b""), len(letter.value or b"")) == (16 * 1024, 2 << 20)
    assert dict(letter.headers())["whirr_value_bytes"] == str(3 << 20).encode()


def test_dead_letters_carry_headers_within_limits():
    many = [(f"x-{i}", b"v") for i in range(100)]
    letter = DeadLetter(code="not_audio", detail="d" * 5000, record=replace(BARE, headers=many, partition=3, offset=9))
    headers = letter.headers()
    assert [name for name, _ in headers if name.startswith("x-")] == [f"x-{i}" for i in range(32)]
    ours = dict(headers[32:])
    assert ours["whirr_error"] == b"not_audio"
    assert len(ours["whirr_detail"]) == 1024
    assert (ours["whirr_topic"], ours["whirr_partition"], ours["whirr_offset"]) == (b"vibration-frames", b"3", b"9")
    large = replace(BARE, headers=[("a", bytes(10_000)), ("b", bytes(10_000))])
    carried = DeadLetter(code="not_audio", detail="", record=large).headers()
    assert [name for name, _ in carried if not name.startswith("whirr_")] == ["a"]
    again = replace(BARE, headers=headers)
    assert [n for n, _ in DeadLetter(code="no_route", detail="", record=again).headers()].count("whirr_error") == 1
