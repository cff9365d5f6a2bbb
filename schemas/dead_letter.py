"""A dead letter: a record that could not be used, with the reason. The original value and headers travel along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.frame import FrameRecord, Headers

ERROR_CODES: Final[dict[str, str]] = {
    "key_missing": "the record has no key",
    "key_invalid": "the key is no machine id",
    "empty_value": "the record has no value",
    "value_too_large": "the value is larger than a frame may be",
    "header_invalid": "a header is malformed",
    "time_invalid": "the record's timestamp or the recording time lies outside the years 1970 to 9999",
    "time_in_future": "the recording time is more than 5 minutes after the record's timestamp",
    "not_audio": "the value is no WAV or FLAC file that can be decoded",
    "truncated": "the audio ends before its header says it does",
    "encoding_unsupported": "WAV or FLAC, but not PCM 16, 24, 32 bit or float 32",
    "rate_unsupported": "the sample rate is out of range",
    "too_short": "the audio is shorter than a frame may be, or than one window of the model",
    "too_long": "the audio is longer than a frame may be",
    "too_many_samples": "more samples over all channels than a frame may have, as sent or at the model's rate",
    "not_finite": "a sample is NaN or infinite",
    "channels_mismatch": "the frame's channels don't fit the model's",
    "no_route": "no route's pattern matches the machine id",
    "unfamiliar": "the model was not trained for the frame, and the route refuses such frames",
    "too_many_streams": "the stream is new, and there are too many streams, or too many new ones, for this worker",
    "too_costly": "the machine has sent more than its budget of computation",
    "computation_timed_out": "computing this frame alone took too long, and a healthy frame did not",
    "computation_crashed": "computing this frame alone ended the computing process, and a healthy frame did not",
    "batch_unreadable": "the batch that the records came in is damaged, or of a kind that Kafka does not have",
    "batch_too_large": "the batch unpacks to more than may be unpacked",
    "batch_too_many": "the batch has more records than a batch may have",
    "record_unreadable": "the record is damaged; others of its batch may be good",
    "answer_too_large": "an answer to a frame is larger than its topic takes",
    "processing_failed": "an unexpected error; the worker's log has the traceback",
}
MAX_CARRIED_HEADERS = 32
MAX_CARRIED_HEADER_BYTES = 16 * 1024
MAX_CARRIED_KEY_BYTES = 16 * 1024
MAX_CARRIED_VALUE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that could not be used.

    Attributes:
        code: One of :data:`ERROR_CODES`.
        detail: The offending value and what was expected.
        record: The record as it came.
    """

    code: str
    detail: str
    record: FrameRecord

    @property
    def key(self) -> bytes | None:
        """The original key; cut where no topic would take it."""
        key = self.record.key
        return key if key is None else key[:MAX_CARRIED_KEY_BYTES]

    @property
    def value(self) -> bytes | None:
        """The original value; cut where no topic would take it: a compressed batch may hold very large ones."""
        value = self.record.value
        return value if value is None else value[:MAX_CARRIED_VALUE_BYTES]

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers to send: the original ones within limits, then the reason and where it stood."""
        ours = [
            ("whirr_error", self.code.encode()),
            # Cut between two characters, so that it stays UTF-8.
            ("whirr_detail", self.detail.encode()[:1024].decode(errors="ignore").encode()),
            ("whirr_topic", self.record.topic.encode()),
            ("whirr_partition", str(self.record.partition).encode()),
            ("whirr_offset", str(self.record.offset).encode()),
            ("whirr_timestamp_ms", str(self.record.timestamp_ms).encode()),
        ]
        if self.record.unreadable is not None:
            ours.append(("whirr_first_offset", str(self.record.unreadable.first_offset).encode()))
        if self.value != self.record.value:
            ours.append(("whirr_value_bytes", str(len(self.record.value or b"")).encode()))
        return [*_carried(self.record.headers), *ours]


def _carried(headers: Headers) -> list[tuple[str, bytes]]:
    """Return the leading original headers that fit the limits; a replayed dead letter's old reason is dropped."""
    carried: list[tuple[str, bytes]] = []
    size = 0
    for name, raw in headers:
        if name.startswith("whirr_"):
            continue
        size += len(name.encode()) + len(raw or b"")
        if len(carried) == MAX_CARRIED_HEADERS or size > MAX_CARRIED_HEADER_BYTES:
            break
        carried.append((name, raw))
    return carried
