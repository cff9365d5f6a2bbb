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

_SHORT_KEY_BYTES = 256


class Message(NamedTuple):
    """One record to send.

    Attributes:
        topic: Where to.
        key, value: As they go on the wire.
        headers: Pairs of name and bytes.
        partition: Which partition, or None to place it by its key.
        frame: Topic, partition and offset of the frame that this is an answer to, where it is one.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    frame: tuple[str, int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes, and a few more."""
        size = len(self.key or b"") + len(self.value or b"") + 100
        for name, raw in self.headers:
            size += len(name) * 4 + len(raw or b"") + 10
        return size

    def describe(self) -> str:
        """Return what and how large it is, in words."""
        return f"for {self.topic!r} of {len(self.value or b'')} bytes, key {(self.key or b'')[:64]!r}"


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
        """Return a score as a message, None where scores are not wanted.

        ``ce_id`` is the frame's identity; of a challenger's, with the challenger's name and version.
        """
        if self.scores is None:
            return None
        identity = score.frame_id + (f"/{score.model.name}/{score.model.version}" if score.shadow else "")
        headers = self._headers(identity, SCORE_TYPE, score.recorded_at)
        frame = score.topic, score.partition, score.offset
        return Message(self.scores, score.machine_id.encode(), orjson.dumps(score), headers, frame=frame)

    def alert(self, alert: Alert) -> Message:
        """Return an alert as a message; ``ce_id`` is its ``alert_id``, the same for every redelivery."""
        headers = self._headers(alert.alert_id, ALERT_TYPE, alert.recorded_at)
        frame = None if alert.frame is None else (alert.frame.topic, alert.frame.partition, alert.frame.offset)
        return Message(self.alerts, alert.machine_id.encode(), orjson.dumps(alert), headers, frame=frame)

    def dead_letter(self, letter: DeadLetter) -> Message:
        """Return a dead letter as a message: key and value as they came, with the reason in the headers."""
        return Message(self.dead_letters, letter.key, letter.value, letter.headers())

    def state(self, partition: int, key: bytes, state: StreamState | bytes | None) -> Message:
        """Return a stream's state as a record of the changelog, beside the partition of its frames; None forgets it."""
        raw = state.to_bytes() if isinstance(state, StreamState) else state
        return Message(self.changelog, key, raw, (), partition)

    def too_large(self, message: Message) -> Message:
        """Return what is sent in place of a message that its topic does not take: a dead letter without its value."""
        if message.topic == self.dead_letters:
            cut = ("whirr_value_bytes", str(len(message.value or b"")).encode())
            headers = [one for one in message.headers if one[0].startswith("whirr_") and one[0] != cut[0]]
            return Message(self.dead_letters, _short(message.key), None, [*headers, cut])
        detail = f"{len(message.value or b'')} bytes for topic {message.topic!r}, which takes less"
        headers = [("whirr_error", b"answer_too_large"), ("whirr_detail", detail.encode())]
        if message.frame is None:
            headers.append(("whirr_topic", message.topic.encode()))
        else:
            names = ("whirr_topic", "whirr_partition", "whirr_offset")
            headers += [(name, str(part).encode()) for name, part in zip(names, message.frame, strict=True)]
        return Message(self.dead_letters, _short(message.key), None, headers)

    def _headers(self, identity: str, kind: str, time: str) -> list[tuple[str, bytes]]:
        return [
            ("ce_specversion", b"1.0"),
            ("ce_id", identity.encode()),
            ("ce_type", kind.encode()),
            ("ce_source", self.name.encode()),
            ("ce_time", time.encode()),
            ("content-type", b"application/json"),
        ]


def _short(key: bytes | None) -> bytes | None:
    return None if key is None else key[:_SHORT_KEY_BYTES]
