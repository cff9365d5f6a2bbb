"""The published contracts: JSON Schemas that follow from the types, and the AsyncAPI document around them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import jsonschema
import orjson
import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker

from schemas import (
    ERROR_CODES,
    Alert,
    AlertModel,
    Band,
    DeadLetter,
    FrameRecord,
    FrameRef,
    ModelRef,
    Score,
    Verdict,
    frame_headers,
    parse_verdict,
)
from schemas.frame import MACHINE_ID
from schemas.generate import FOLDER, schemas, text
from tests.helpers import MAX_RECORD_BYTES, schema, validate_headers, validate_message
from whirr.settings import Settings
from whirr.topics import topic_specs

FRAME_ID = "6c8b3f0f5d1c4a7e9b2d8f6a1e3c5b70"
NOW = "2026-01-31T12:00:00.000000Z"

SCORE = Score(
    frame_id=FRAME_ID,
    machine_id="pump-7",
    source=None,
    recorded_at=NOW,
    scored_at=NOW,
    score=0.8,
    threshold=3.0,
    status="scored",
    idle_reason=None,
    sensor_fault=None,
    level_dbfs=-28.4,
    missing_before=0,
    model=ModelRef(name="pumps", version="12"),
    topic="vibration-frames",
    partition=3,
    offset=1204,
)
ALERT = Alert(
    alert_id=FRAME_ID,
    incident_id=FRAME_ID,
    kind="machine",
    sensor_fault=None,
    machine_id="pump-7",
    source="drive-end",
    state="opened",
    severity="warning",
    score=4.2,
    threshold=3.0,
    ratio=1.4,
    recorded_at=NOW,
    scored_at=NOW,
    frame=FrameRef(
        frame_id=FRAME_ID,
        foreign_id=None,
        sequence=41,
        duration_s=1.0,
        published_at=NOW,
        topic="vibration-frames",
        partition=3,
        offset=1204,
    ),
    model=AlertModel(name="pumps", version="12", run_id=None),
    bands=(Band(from_hz=2840.0, to_hz=3120.0, share=0.61),),
    statistics={"rms_mean": 0.031},
)

VERDICT = Verdict(
    verdict_id=FRAME_ID,
    incident_id=FRAME_ID,
    machine_id="pump-7",
    source=None,
    kind="machine",
    verdict="confirmed",
    by="m.weber",
    time=NOW,
    began_at=NOW,
    fault="bearing",
)


# JSON Schemas


@pytest.mark.parametrize("name", sorted(schemas()))
def test_the_files_follow_from_the_types(name: str):
    path = FOLDER / f"{name}.schema.json"
    assert path.read_text(encoding="utf-8") == text(schemas()[name]), "stale: run `make schemas`"


def test_no_file_is_left_over():
    assert {path.name.removesuffix(".schema.json") for path in FOLDER.iterdir()} == set(schemas())


@pytest.mark.parametrize("name", sorted(schemas()))
def test_each_schema_is_one_and_says_what_it_describes(name: str):
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$id"] == f"urn:whirr:schema:{name}:v1"
    assert schema(name)["title"]
    assert schema(name)["description"]


@pytest.mark.parametrize(("name", "field"), [("alert", "alert_id"), ("alert", "ratio"), ("score", "missing_before")])
def test_the_docstrings_are_the_properties_descriptions(name: str, field: str):
    assert len(schema(name)["properties"][field]["description"]) > 10


def test_what_the_types_serialise_to_is_valid():
    assert validate_message("score", orjson.dumps(SCORE))["machine_id"] == "pump-7"
    assert validate_message("alert", orjson.dumps(ALERT))["bands"] == [
        {"from_hz": 2840.0, "to_hz": 3120.0, "share": 0.61}
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score", -1),
        ("score", None),
        ("score", "0.8"),
        ("threshold", 0),
        ("status", "fine"),
        ("frame_id", "6C8B"),
        ("recorded_at", "31 January"),
        ("missing_before", -1),
        ("model", {"name": "pumps"}),
        ("unknown", 1),
    ],
)
def test_a_wrong_score_is_refused(field: str, value: Any):
    wrong = {**orjson.loads(orjson.dumps(SCORE)), field: value}
    with pytest.raises(jsonschema.ValidationError):
        validate_message("score", json.dumps(wrong).encode())


def test_a_verdict_is_read_as_it_was_written():
    assert validate_message("verdict", orjson.dumps(VERDICT))["fault"] == "bearing"
    assert parse_verdict(orjson.dumps(VERDICT)) == VERDICT


def test_a_verdict_of_another_version_is_read():
    """A later one adds properties; an earlier one has those alone that are required."""
    later = {**orjson.loads(orjson.dumps(VERDICT)), "urgency": 3}
    assert parse_verdict(orjson.dumps(later)) == VERDICT
    required = {name: later[name] for name in schema("verdict")["required"]}
    assert parse_verdict(orjson.dumps(required)) == replace(VERDICT, fault=None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verdict", "wrong"),
        ("incident_id", "0f1e"),
        ("machine_id", "(many)"),
        ("by", ""),
        ("by", None),
        ("time", "yesterday"),
        ("since", "2026-01-31"),
        ("note", "x" * 2001),
    ],
)
def test_a_wrong_verdict_is_refused(field: str, value: Any):
    wrong = orjson.dumps({**orjson.loads(orjson.dumps(VERDICT)), field: value})
    with pytest.raises(jsonschema.ValidationError):
        validate_message("verdict", wrong)
    with pytest.raises(ValueError, match=r"."):
        parse_verdict(wrong)


def test_a_number_that_json_lacks_is_refused():
    wrong = {**orjson.loads(orjson.dumps(SCORE)), "score": float("nan")}
    with pytest.raises(pytest.fail.Exception, match="NaN"):
        validate_message("score", json.dumps(wrong).encode())


def test_frame_headers_are_valid_with_and_without_what_is_optional():
    validate_headers("frame", frame_headers("pump-7", "drive-end", 1_769_860_800_000_000, b"fLaC", sequence=41))
    validate_headers("frame", frame_headers("pump-7", None, 0, b"RIFF"))
    validate_headers("frame", [])
    with pytest.raises(jsonschema.ValidationError):
        validate_headers("frame", [("ce_time", b"yesterday")])


@pytest.mark.parametrize("code", ERROR_CODES)
def test_dead_letter_headers_are_valid_for_each_reason(code: str):
    record = FrameRecord(key=None, value=b"", headers=[("ce_id", b"\xff")], partition=3, offset=1204)
    headers = validate_headers("dead_letter", DeadLetter(code=code, detail="empty", record=record).headers())
    assert headers["whirr_error"] == code


def test_a_dead_letter_without_a_reason_is_refused():
    with pytest.raises(jsonschema.ValidationError, match="whirr_error"):
        validate_headers("dead_letter", [("ce_id", b"1")])


# AsyncAPI


@cache
def document() -> dict[str, Any]:
    return yaml.safe_load((FOLDER.parent / "asyncapi.yaml").read_text(encoding="utf-8"))


def resolve(reference: str) -> Any:
    """Return what a ``$ref`` of the document points to; KeyError or FileNotFoundError if there is nothing."""
    file, _, pointer = reference.partition("#")
    target = json.loads((FOLDER.parent / file).read_text(encoding="utf-8")) if file else document()
    for part in pointer.split("/")[1:]:
        target = target[part.replace("~1", "/").replace("~0", "~")]
    return target


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from references(item)


def follow(part: dict[str, Any]) -> dict[str, Any]:
    return resolve(part["$ref"]) if "$ref" in part else part


def messages() -> list[Any]:
    return [pytest.param(message, id=name) for name, message in document()["components"]["messages"].items()]


def test_it_has_the_parts_of_an_asyncapi_3_document():
    allowed = {"asyncapi", "info", "defaultContentType", "servers", "channels", "operations", "components"}
    assert set(document()) <= allowed
    assert document()["asyncapi"] == "3.0.0"
    assert document()["info"].keys() >= {"title", "version"}
    for server in document()["servers"].values():
        assert server.keys() >= {"host", "protocol"}


def test_every_reference_leads_somewhere():
    found = list(references(document()))
    for reference in found:
        assert resolve(reference) is not None
    files = {reference.partition("#")[0] for reference in found if not reference.startswith("#")}
    unused = {"./json/model_metadata.schema.json"}  # inside a model file, not on Kafka
    assert files | unused == {f"./json/{path.name}" for path in FOLDER.iterdir()}


def test_channels_are_the_topics_of_the_default_settings():
    defaults = Settings()
    channels = document()["channels"].values()
    specs = {spec.name: spec for spec in topic_specs(defaults)[:-1]}  # the changelog is nobody else's business
    assert {channel["address"] for channel in channels} == specs.keys()
    for channel in channels:
        kafka = channel["bindings"]["kafka"]
        assert kafka["bindingVersion"]
        assert kafka["partitions"] == specs[channel["address"]].partitions
        assert kafka["topicConfiguration"]["max.message.bytes"] == MAX_RECORD_BYTES
        for message in channel["messages"].values():
            assert follow(message) in document()["components"]["messages"].values()


def test_each_operation_sends_or_receives_messages_of_its_channel():
    used = set()
    for operation in document()["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        used.add(channel.removeprefix("#/channels/"))
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"{channel}/messages/")
    assert used == set(document()["channels"])


@pytest.mark.parametrize("message", messages())
def test_each_message_has_headers_a_payload_a_key_and_an_example(message: dict[str, Any]):
    assert message.keys() >= {"name", "title", "summary", "contentType", "headers", "payload", "bindings", "examples"}
    assert message["bindings"]["kafka"].keys() == {"key", "bindingVersion"}


@pytest.mark.parametrize("message", messages())
def test_the_examples_are_valid(message: dict[str, Any]):
    for example in message["examples"]:
        for part in ("headers", "payload"):
            if part in example:
                described = follow(message[part])
                Draft202012Validator(described, format_checker=FormatChecker()).validate(example[part])


def test_the_key_is_a_machine_id_as_the_code_takes_it():
    assert document()["components"]["schemas"]["machineId"]["pattern"] == f"^{MACHINE_ID.pattern}$"
