"""Scores, alerts and dead letters as Kafka messages: JSON values and CloudEvents headers (binary mode)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from schemas.alert import ALERT_TYPE, Alert
from schemas.dead_letter import DeadLetter
from schemas.frame import Headers
from schemas.score import SCORE_TYPE, Score
from stream_app.pipeline import StreamState


class Message(NamedTuple):
    """One record to send.

    Attributes:
        topic: Where to.
        key, value: As they go on the wire.
        headers: Pairs of name and bytes.
        partition: Which partition, or None to place it by its key.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Makes messages of what a worker has to say.

    Attributes:
        alerts, dead_letters, changelog: Topics.
        scores: Topic, or None where scores are not wanted.
        name: The worker's id; becomes ``ce_source``.
    """

    alerts: str
    scores: str | None
    dead_letters: str
    changelog: str
    name: str

    def score(self, score: Score) -> Message | None:
        """Return a score as a message, None where scores are not wanted; ``ce_id`` is the frame's identity."""
        if self.scores is None:
            return None
        headers = self._headers(score.frame_id, SCORE_TYPE, score.recorded_at)
        return Message(self.scores, score.machine_id.encode(), orjson.dumps(score), headers)

    def alert(self, alert: Alert) -> Message:
        """Return an alert as a message; ``ce_id`` is its ``alert_id``, the same for every redelivery."""
        headers = self._headers(alert.alert_id, ALERT_TYPE, alert.recorded_at)
        return Message(self.alerts, alert.machine_id.encode(), orjson.dumps(alert), headers)

    def dead_letter(self, letter: DeadLetter) -> Message:
        """Return a dead letter as a message: key and value as they came, with the reason in the headers."""
        return Message(self.dead_letters, letter.key, letter.value, letter.headers())

    def state(self, partition: int, key: bytes, state: StreamState | bytes | None) -> Message:
        """Return a stream's state as a record of the changelog, beside the partition of its frames; None forgets it."""
        raw = state.to_bytes() if isinstance(state, StreamState) else state
        return Message(self.changelog, key, raw, (), partition)

    def _headers(self, identity: str, kind: str, time: str) -> list[tuple[str, bytes]]:
        return [
            ("ce_specversion", b"1.0"),
            ("ce_id", identity.encode()),
            ("ce_type", kind.encode()),
            ("ce_source", self.name.encode()),
            ("ce_time", time.encode()),
            ("content-type", b"application/json"),
        ]
