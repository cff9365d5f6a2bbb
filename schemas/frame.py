"""A frame: one segment of one machine's signal, as it crosses Kafka.

Key: the machine's id. Value: a WAV or FLAC file. Headers: CloudEvents' Kafka binding in binary mode, all optional.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.condition import UNKNOWN, Condition, check_condition, number_text, parse_condition
from schemas.errors import FrameRejected, SettingsError
from schemas.times import format_rfc3339, parse_rfc3339

FRAME_TYPE = "whirr.frame.v1"
MIN_FRAME_S = 0.1
MAX_FRAME_S = 60.0
MAX_VALUE_BYTES = 1_000_000
MAX_SAMPLES = 4_000_000  # over all channels
MIN_RATE_HZ = 100
MAX_RATE_HZ = 384_000
MAX_CHANNELS = 64
MAX_SOURCE_CHARS = 256
MAX_HEADERS = 128
MAX_AHEAD_US = 5 * 60 * 1_000_000  # a recording time this far after the record's own means a wrong clock
MAX_TIMESTAMP_MS = 253_402_300_800_000  # the year 10000: RFC 3339 ends there
MACHINE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why records of a topic can't be read.

    Attributes:
        first_offset: Where it begins.
        code: One of ``schemas.ERROR_CODES``.
        detail: What is wrong.
    """

    first_offset: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One Kafka record of the frames topic, before anything in it is believed.

    Attributes:
        key: The record's key, or None.
        value: The record's value, or None.
        headers: Pairs of name and bytes, in order, repeats kept.
        timestamp_ms: The record's timestamp, milliseconds since the epoch.
        topic, partition, offset: Where it stands; never an identity.
        unreadable: Set where this stands for records that could not be read; ``offset`` is the last one's.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp_ms: int = 0
    topic: str = "vibration-frames"
    partition: int = 0
    offset: int = 0
    unreadable: Unreadable | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose envelope is good; its audio is not yet decoded.

    Attributes:
        frame_id: 32 hex digits, see :func:`frame_id`.
        machine_id: Whose signal.
        source: Which sensor (``ce_source``), or None.
        recorded_us: Start of the recording, microseconds since the epoch.
        sequence: The sensor's counter (``ce_sequence``), or None.
        foreign_id: ``ce_id`` as the producer set it, or None.
        record: The record it came in.
        condition: How the machine ran (``ce_rpm``, ``ce_load``), as far as its gateway knows.
    """

    frame_id: str
    machine_id: str
    source: str | None
    recorded_us: int
    sequence: int | None
    foreign_id: str | None
    record: FrameRecord
    condition: Condition = UNKNOWN

    @property
    def stream(self) -> tuple[str, str]:
        """The stream that the frame belongs to: machine id and source ('' for none)."""
        return self.machine_id, self.source or ""


def frame_id(machine_id: str, source: str | None, recorded_us: int, value: bytes) -> str:
    """Return a frame's identity: the first 16 bytes, in hex, of a SHA-256.

    The digest is over machine id, source ('' for none), recording time (decimal microseconds) and value, in this
    order, with one NUL byte after each of the first three.
    """
    digest = hashlib.sha256(f"{machine_id}\0{source or ''}\0{recorded_us}\0".encode())
    digest.update(value)
    return digest.hexdigest()[:32]


def frame_headers(
    machine_id: str,
    source: str | None,
    recorded_us: int,
    value: bytes,
    sequence: int | None = None,
    content_type: str = "audio/flac",
    *,
    condition: Condition = UNKNOWN,
) -> list[tuple[str, bytes]]:
    """Return the headers with which Whirr's own producers send a frame."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", FRAME_TYPE.encode()),
        ("ce_id", frame_id(machine_id, source, recorded_us, value).encode()),
        ("ce_time", format_rfc3339(recorded_us).encode()),
        ("content-type", content_type.encode()),
    ]
    if source is not None:
        headers.append(("ce_source", source.encode()))
    if sequence is not None:
        headers.append(("ce_sequence", str(sequence).encode()))
    return [*headers, *condition_headers(condition)]


def condition_headers(condition: Condition) -> list[tuple[str, bytes]]:
    """Return the headers that state what is known of how the machine ran."""
    stated = zip(condition._fields, condition, strict=True)
    return [(f"ce_{name}", number_text(number).encode()) for name, number in stated if number is not None]


def parse_frame(record: FrameRecord) -> Frame:
    """Return the frame that a record carries; the audio itself is not looked at.

    Raises:
        FrameRejected: The key, the value's size or a header is unusable.
    """
    machine_id = check_size(record)
    assert record.value is not None
    headers = _known_headers(record.headers)
    source = _label("ce_source", headers.get("ce_source"))
    recorded_us = _recorded_us(headers.get("ce_time"), record.timestamp_ms)
    return Frame(
        frame_id=frame_id(machine_id, source, recorded_us, record.value),
        machine_id=machine_id,
        source=source,
        recorded_us=recorded_us,
        sequence=_sequence(headers.get("ce_sequence")),
        foreign_id=_label("ce_id", headers.get("ce_id")),
        record=record,
        condition=Condition(*(_condition(name, headers.get(f"ce_{name}")) for name in Condition._fields)),
    )


def check_stream(machine_id: str | None, source: str | None) -> None:
    """Hold a machine's id and a source's name, where they are given, against what the wire takes.

    Raises:
        SettingsError: They can't be sent.
    """
    if machine_id is not None and not MACHINE_ID.fullmatch(machine_id):
        raise SettingsError(f"machine id is {machine_id!r}; expected 1 to 128 of A-Z a-z 0-9 . _ : -")
    if source is not None and not (0 < len(source) <= MAX_SOURCE_CHARS and source.isprintable()):
        raise SettingsError(f"source is {source!r}; expected 1 to {MAX_SOURCE_CHARS} printable characters")


def check_stated(condition: Condition) -> None:
    """Hold a condition that a user states against what the wire takes.

    Raises:
        SettingsError: It can't be sent.
    """
    try:
        check_condition(condition)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def check_size(record: FrameRecord) -> str:
    """Return the machine id of a record that is of a frame's size, whatever it may hold.

    What this refuses need not be handed to whoever computes: it may be of any size.

    Raises:
        FrameRejected: It could not be read, or its key, value or number of headers is unusable.
    """
    if record.unreadable is not None:
        raise FrameRejected(record.unreadable.code, record.unreadable.detail)
    machine_id = _machine_id(record.key)
    if not record.value:
        raise FrameRejected("empty_value", "the record has no value; expected a WAV or FLAC file")
    if len(record.value) > MAX_VALUE_BYTES:
        raise FrameRejected("value_too_large", f"{len(record.value)} bytes; at most {MAX_VALUE_BYTES} are taken")
    if len(record.headers) > MAX_HEADERS:
        raise FrameRejected("header_invalid", f"{len(record.headers)} headers; at most {MAX_HEADERS} are taken")
    return machine_id


KNOWN_HEADERS = frozenset({"ce_type", "ce_id", "ce_source", "ce_time", "ce_sequence", "ce_rpm", "ce_load"})


def _known_headers(headers: Headers) -> dict[str, str]:
    """Return the headers that mean something here; the last of a repeated name counts."""
    known = {}
    for name, raw in headers:
        if name not in KNOWN_HEADERS or raw is None:
            continue
        try:
            known[name] = raw.decode()
        except UnicodeDecodeError:
            raise FrameRejected("header_invalid", f"{name} is {raw[:64]!r}; expected UTF-8") from None
    if known.get("ce_type", FRAME_TYPE) != FRAME_TYPE:
        raise FrameRejected("header_invalid", f"ce_type is {known['ce_type'][:64]!r}; expected {FRAME_TYPE!r}")
    return known


def _machine_id(key: bytes | None) -> str:
    if not key:
        raise FrameRejected("key_missing", "the record has no key; expected the machine's id")
    try:
        text = key.decode()
    except UnicodeDecodeError:
        raise FrameRejected("key_invalid", f"the key is {key[:64]!r}; expected UTF-8") from None
    if not MACHINE_ID.fullmatch(text):
        shown = f"{text[:64]!r} ({len(text)} characters)"
        raise FrameRejected("key_invalid", f"the key is {shown}; expected 1 to 128 of A-Z a-z 0-9 . _ : -")
    return text


def _label(name: str, text: str | None) -> str | None:
    """Return a header that alerts carry along, so its length is bounded; None for an empty one."""
    if text is None or text == "":
        return None
    if len(text) > MAX_SOURCE_CHARS or not text.isprintable():
        shown = f"{text[:64]!r} ({len(text)} characters)"
        raise FrameRejected(
            "header_invalid", f"{name} is {shown}; expected at most {MAX_SOURCE_CHARS} printable characters"
        )
    return text


def _recorded_us(text: str | None, timestamp_ms: int) -> int:
    if not 0 <= timestamp_ms < MAX_TIMESTAMP_MS:
        raise FrameRejected(
            "time_invalid", f"the record's timestamp is {timestamp_ms} ms; expected a time from 1970 to 9999"
        )
    if text is None:
        return timestamp_ms * 1000
    try:
        recorded_us = parse_rfc3339(text)
    except ValueError as error:
        raise FrameRejected("header_invalid", f"ce_time: {error}") from None
    if not 0 <= recorded_us < MAX_TIMESTAMP_MS * 1000:
        raise FrameRejected("time_invalid", f"ce_time is {text[:64]}; expected a time from 1970 to 9999")
    if recorded_us > timestamp_ms * 1000 + MAX_AHEAD_US:
        raise FrameRejected(
            "time_in_future",
            f"ce_time is {text[:64]}, the record's timestamp {format_rfc3339(timestamp_ms * 1000)}; "
            "at most 5 minutes ahead are taken",
        )
    return recorded_us


def _sequence(text: str | None) -> int | None:
    if text is None:
        return None
    # isdecimal() alone would take other scripts' digits; 18 digits keep it within a signed 64-bit state field.
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise FrameRejected("header_invalid", f"ce_sequence is {text[:64]!r}; expected a whole number from 0")
    return int(text)


def _condition(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_condition(name, text)
    except ValueError as error:
        raise FrameRejected("header_invalid", f"ce_{name} is {error}") from None
