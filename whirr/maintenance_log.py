"""What maintenance windows kept from being reported: found in the scores, for as long as Kafka keeps those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

from schemas.score import Score
from schemas.times import format_rfc3339, parse_rfc3339
from whirr.maintenance import Maintenance, Occurrence
from whirr.settings import Settings
from whirr.topic_reader import read_topic

_CHECKED: Final = TypeAdapter(Score)


@dataclass(slots=True, kw_only=True)
class Suppressed:
    """What one occurrence of a window suppressed of one stream.

    Attributes:
        machine_id, source: Whose frames.
        match, note: The window's; None where none of the windows as they are set now was on.
        begin, end: The occurrence's, RFC 3339; likewise.
        first_at, last_at: When its first and its last frame were recorded.
        frames: How many of the stream's frames were recorded in it.
        above: How many of them scored above the alert threshold.
        highest_ratio: The highest of their scores, divided by its threshold.
        sensor_faults: How many had a signal at fault, by what was wrong.
    """

    machine_id: str
    source: str | None
    match: str | None
    note: str | None
    begin: str | None
    end: str | None
    first_at: str
    last_at: str
    frames: int = 0
    above: int = 0
    highest_ratio: float = 0.0
    sensor_faults: Counter[str] = field(default_factory=Counter)

    def add(self, score: Score) -> None:
        """Count a frame, recorded after those before."""
        self.last_at = score.recorded_at
        self.frames += 1
        self.above += score.score > score.threshold
        self.highest_ratio = max(self.highest_ratio, score.score / score.threshold)
        if score.sensor_fault is not None:
            self.sensor_faults[score.sensor_fault] += 1


async def suppressed(settings: Settings, since_us: int | None = None, machine: str = "*") -> list[Suppressed]:
    """Return what was suppressed, by window, machine and source, oldest first.

    Args:
        settings: How to reach Kafka, its topics, and the windows.
        since_us: Scores stored before are left out, microseconds since the epoch; None for none.
        machine: Pattern of machine ids.

    Raises:
        SettingsError: There is no scores topic.
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: Kafka refuses this user.
    """
    tally = _Tally(Maintenance(settings.maintenance), lambda score: fnmatchcase(score.machine_id, machine))
    async for record in read_topic(settings, settings.scores_topic, since_us=since_us):
        tally.add(record.value)
    return tally.result()


class _Tally:
    def __init__(self, maintenance: Maintenance, wanted: Callable[[Score], bool]) -> None:
        self._maintenance, self._wanted = maintenance, wanted
        self._newest: dict[tuple[str, str], str] = {}
        self._found: dict[tuple[str, str, Occurrence | None], Suppressed] = {}

    def add(self, value: bytes | None) -> None:
        """Take a record of the scores topic."""
        score = _idle_score(value)
        if score is None or not self._wanted(score):
            return
        stream = score.machine_id, score.source or ""
        # What a worker answered twice, after a crash, comes twice: of one stream, in the order of recording.
        if score.recorded_at <= self._newest.get(stream, ""):
            return
        self._newest[stream] = score.recorded_at
        on = self._maintenance.active(score.machine_id, parse_rfc3339(score.recorded_at))
        key = (*stream, on)
        if key not in self._found:
            self._found[key] = _begun(score, on)
        self._found[key].add(score)

    def result(self) -> list[Suppressed]:
        return sorted(
            self._found.values(), key=lambda one: (one.begin or one.first_at, one.machine_id, one.source or "")
        )


def _begun(score: Score, on: Occurrence | None) -> Suppressed:
    return Suppressed(
        machine_id=score.machine_id,
        source=score.source,
        match=on.window.match if on else None,
        note=on.window.note if on else None,
        begin=format_rfc3339(on.begin_us) if on else None,
        end=format_rfc3339(on.end_us) if on else None,
        first_at=score.recorded_at,
        last_at=score.recorded_at,
    )


def _idle_score(value: bytes | None) -> Score | None:
    """Return the score of a frame that was recorded in a window; None for any other record."""
    try:
        read: Any = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(read, dict) or read.get("idle_reason") != "maintenance" or read.get("shadow"):
        return None
    try:
        return _CHECKED.validate_python(read)
    except ValidationError:
        return None
