"""What goes on the wire."""

from __future__ import annotations

from dataclasses import replace

from schemas import DeadLetter, parse_frame
from stream_app.pipeline import StreamState
from tests.helpers import validate_headers, validate_message
from tests.stream_app.worker.fakes import ENCODER, alert_of, frame_record, score_of

FRAME = parse_frame(frame_record())


def test_a_score() -> None:
    message = ENCODER.score(score_of(FRAME))
    assert message is not None
    assert (message.topic, message.key, message.partition) == ("scores", b"pump-1", None)
    assert validate_message("score", message.value or b"")["frame_id"] == FRAME.frame_id
    assert validate_headers("score", message.headers)["ce_id"] == FRAME.frame_id


def test_scores_can_be_unwanted() -> None:
    assert replace(ENCODER, scores=None).score(score_of(FRAME)) is None


def test_an_alert() -> None:
    alert = alert_of("pump-1", None, FRAME.frame_id, "machine::opened")
    message = ENCODER.alert(alert)
    assert (message.topic, message.key) == ("alerts", b"pump-1")
    assert validate_message("alert", message.value or b"")["alert_id"] == alert.alert_id
    headers = validate_headers("alert", message.headers)
    assert headers["ce_id"] == alert.alert_id
    assert headers["ce_type"] == "whirr.alert.v1"
    assert headers["content-type"] == "application/json"


def test_a_dead_letter_is_the_record_as_it_came() -> None:
    record = replace(frame_record(offset=5), key=None, value=b"\xff\x00")
    message = ENCODER.dead_letter(DeadLetter(code="key_missing", detail="no key", record=record))
    assert (message.topic, message.key, message.value) == ("dlq", None, b"\xff\x00")
    headers = validate_headers("dead_letter", message.headers)
    assert headers["whirr_error"] == "key_missing"
    assert headers["whirr_offset"] == "5"


def test_a_state_stands_beside_its_frames() -> None:
    state = StreamState(newest_us=5, frame_id="ab" * 16)
    message = ENCODER.state(3, b"pump-1\0", state)
    assert (message.topic, message.key, message.partition) == ("changelog", b"pump-1\0", 3)
    assert StreamState.from_bytes(message.value or b"").newest_us == 5
