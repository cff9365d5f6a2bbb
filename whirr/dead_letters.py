"""Dead letters on Kafka: which there are, and what they hold. Reading commits nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from aiokafka import ConsumerRecord

from schemas.errors import SettingsError
from schemas.times import format_rfc3339
from whirr.settings import Settings
from whirr.topic_reader import read_record, read_topic

_PLACE = re.compile(r"(\d{1,9}):(\d{1,18})")
_REASON_HEADERS = frozenset(
    {
        "whirr_error",
        "whirr_detail",
        "whirr_topic",
        "whirr_partition",
        "whirr_offset",
        "whirr_first_offset",
        "whirr_timestamp_ms",
        "whirr_value_bytes",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeadLetter:
    """One dead letter.

    Attributes:
        partition, offset: Where it stands on the dead letter topic.
        stored_ms: When it got there, milliseconds since the epoch.
        code, detail: Why the record could not be used.
        topic, original_partition, original_offset, original_ms: Where the record stood, and its timestamp; None where
            that is not told.
        first_offset: Where the letter stands for records that could not be read, the first one's offset;
            ``original_offset`` is the last one's. Else None.
        key, value: Of the record.
        headers: Of the record, as far as they were carried.
        cut_from_bytes: How long the value was, if it was cut.
    """

    partition: int
    offset: int
    stored_ms: int
    code: str
    detail: str
    topic: str | None
    original_partition: int | None
    original_offset: int | None
    original_ms: int | None
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: Sequence[tuple[str, bytes]]
    cut_from_bytes: int | None
    first_offset: int | None = None

    @property
    def place(self) -> str:
        """Its name: partition and offset."""
        return f"{self.partition}:{self.offset}"

    @property
    def machine(self) -> str:
        """The machine's id, or what stands in its place."""
        return "" if self.key is None else self.key.decode(errors="backslashreplace")

    def header(self, name: str) -> str | None:
        """Return the last of the original headers of this name."""
        found = [raw for known, raw in self.headers if known == name and raw is not None]
        return found[-1].decode(errors="replace") if found else None

    def as_json(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it, without the value."""
        return {
            "place": self.place,
            "partition": self.partition,
            "offset": self.offset,
            "stored_at": _time(self.stored_ms),
            "machine_id": self.machine,
            "source": self.header("ce_source"),
            "error": self.code,
            "detail": self.detail,
            "value_bytes": len(self.value or b""),
            "cut_from_bytes": self.cut_from_bytes,
            "topic": self.topic,
            "original_partition": self.original_partition,
            "original_offset": self.original_offset,
            "first_offset": self.first_offset,
            "original_time": None if self.original_ms is None else _time(self.original_ms),
            "headers": {name: (raw or b"").decode(errors="backslashreplace") for name, raw in self.headers},
        }


def _time(time_ms: int) -> str:
    """Return a timestamp as RFC 3339; a client may set any number, also one that is no time."""
    try:
        return format_rfc3339(time_ms * 1000)
    except OverflowError:
        return f"{time_ms} ms"


def parse_place(text: str) -> tuple[int, int]:
    """Return partition and offset of ``PARTITION:OFFSET``.

    Raises:
        SettingsError: It is something else.
    """
    if match := _PLACE.fullmatch(text):
        return int(match[1]), int(match[2])
    raise SettingsError(f"dead letter is {text!r}; expected PARTITION:OFFSET, such as 0:17, as `whirr dlq list` shows")


def letter_of(record: ConsumerRecord) -> StoredDeadLetter:
    """Return what a record of the dead letter topic says; whatever is missing or no number is None."""
    about = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers if name in _REASON_HEADERS}

    def number(name: str) -> int | None:
        text = about.get(name, "")
        return int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else None

    return StoredDeadLetter(
        partition=record.partition,
        offset=record.offset,
        stored_ms=record.timestamp,
        code=about.get("whirr_error", "?"),
        detail=about.get("whirr_detail", ""),
        topic=about.get("whirr_topic") or None,
        original_partition=number("whirr_partition"),
        original_offset=number("whirr_offset"),
        original_ms=number("whirr_timestamp_ms"),
        key=record.key,
        value=record.value,
        headers=[(name, raw) for name, raw in record.headers if name not in _REASON_HEADERS],
        cut_from_bytes=number("whirr_value_bytes"),
        first_offset=number("whirr_first_offset"),
    )


async def read_letters(
    settings: Settings, *, since_us: int | None = None, machine: str = "*", reason: str | None = None
) -> AsyncIterator[StoredDeadLetter]:
    """Yield the dead letters that are there, those of one partition in order; nothing is committed.

    Args:
        settings: How to reach Kafka, and the topic.
        since_us: Those stored earlier are left out.
        machine: Pattern of machine ids (``*``, ``?``, ``[abc]``).
        reason: Only those with this code.

    Raises:
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: This user may not see the topic.
    """
    letters = read_topic(settings, settings.dead_letter_topic, since_us=since_us, missing_ok=True, hidden_ok=False)
    async for record in letters:
        letter = letter_of(record)
        if fnmatchcase(letter.machine, machine) and reason in (None, letter.code):
            yield letter


async def read_letter(settings: Settings, place: str) -> StoredDeadLetter:
    """Return the dead letter at ``PARTITION:OFFSET``.

    Raises:
        SettingsError: There is none.
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: This user may not see the topic.
    """
    partition, offset = parse_place(place)
    record = await read_record(settings, settings.dead_letter_topic, partition, offset)
    if record is None:
        raise SettingsError(f"{settings.dead_letter_topic} has no dead letter {place}; see `whirr dlq list`")
    return letter_of(record)
