"""Write the JSON Schemas of the wire from the Python types: ``python -m schemas.generate`` (``make schemas``)."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from schemas.alert import ALERT_TYPE, Alert
from schemas.condition import NUMBER
from schemas.dead_letter import ERROR_CODES
from schemas.frame import FRAME_TYPE, MAX_SOURCE_CHARS
from schemas.model_metadata import ModelMetadata
from schemas.score import SCORE_TYPE, Score
from schemas.verdict import VERDICT_TYPE, Verdict

FOLDER: Final = Path(__file__).parent / "json"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MESSAGES: Final[dict[str, type]] = {
    "alert": Alert,
    "model_metadata": ModelMetadata,
    "score": Score,
    "verdict": Verdict,
}
_ATTRIBUTE = re.compile(r"^ {4}(?P<names>[a-z_]\w*(?:, \w+)*): (?P<text>.*)$")
_DIGITS = r"^[0-9]{1,18}$"


def schemas() -> dict[str, dict[str, Any]]:
    """Return every JSON Schema, by its name (the file's name without ``.schema.json``)."""
    return {**{name: _message(name, kind) for name, kind in _MESSAGES.items()}, **_headers()}


def text(schema: dict[str, Any]) -> str:
    """Return a schema as it stands in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write each schema to ``schemas/json``."""
    FOLDER.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        path = FOLDER / f"{name}.schema.json"
        path.write_text(text(schema), encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}\n")


def _message(name: str, kind: type) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    for part in (schema, *schema.get("$defs", {}).values()):
        if "properties" in part:
            _describe(part)
    return {"$schema": DIALECT, "$id": f"urn:whirr:schema:{name}:v1", **schema}


def _describe(part: dict[str, Any]) -> None:
    """Split a class's docstring: its first part describes the object, its ``Attributes`` describe the properties."""
    summary, _, attributes = inspect.cleandoc(part["description"]).partition("\n\nAttributes:\n")
    part["description"] = _plain(summary)
    for name, description in _attributes(attributes).items():
        field = part["properties"][name]
        field["description"] = f"{description} ({field['description']})" if "description" in field else description


def _attributes(section: str) -> dict[str, str]:
    described: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if start := _ATTRIBUTE.match(line):
            names = start["names"].split(", ")
            described.update(dict.fromkeys(names, _plain(start["text"])))
        else:
            described.update({name: f"{described[name]} {_plain(line)}" for name in names})
    return described


def _plain(docstring: str) -> str:
    """Return prose without the markup of docstrings and on one line."""
    without_roles = re.sub(r":\w+:`([^`]*)`", r"\1", docstring)
    return " ".join(without_roles.replace("``", "").split())


def _headers() -> dict[str, dict[str, Any]]:
    """Return the schemas of header maps: from a header's name to its value as UTF-8 text."""
    frame = {
        **_cloud_event(FRAME_TYPE, "which sensor of the machine"),
        "ce_sequence": {"type": "string", "pattern": _DIGITS, "description": "counter per sensor; gaps are reported"},
        "ce_rpm": {
            "type": "string",
            "pattern": f"^{NUMBER}$",
            "description": "revolutions of the machine's shaft a minute, above 0; none for a machine at rest",
        },
        "ce_load": {
            "type": "string",
            "pattern": f"^{NUMBER}$",
            "description": "load in per cent of the nominal one, or in any unit that a machine's gateways use alike",
        },
        "content-type": {"type": "string", "description": "what the value is", "examples": ["audio/wav", "audio/flac"]},
    }
    frame["ce_source"]["maxLength"] = MAX_SOURCE_CHARS
    event = {"content-type": {"const": "application/json"}}
    required = ["ce_specversion", "ce_type", "ce_id", "ce_source", "content-type"]
    return {
        "frame_headers": _header_map("frame_headers", "Headers of a frame; every one is optional.", frame, []),
        "alert_headers": _header_map(
            "alert_headers",
            "Headers of an alert: CloudEvents, binary mode; ce_id is the alert_id.",
            {**_cloud_event(ALERT_TYPE, "who raised the alert"), **event},
            required,
        ),
        "score_headers": _header_map(
            "score_headers",
            "Headers of a score: CloudEvents, binary mode; ce_id is the frame_id, of a challenger's with its model.",
            {**_cloud_event(SCORE_TYPE, "who scored the frame"), **event},
            required,
        ),
        "verdict_headers": _header_map(
            "verdict_headers",
            "Headers of a verdict: CloudEvents, binary mode; ce_id is the verdict_id.",
            {**_cloud_event(VERDICT_TYPE, "the program that it was given to"), **event},
            required,
        ),
        "dead_letter_headers": _header_map(
            "dead_letter_headers",
            "Headers of a dead letter, besides the frame's own ones (at most 32 headers and 16 KiB).",
            _reason(),
            ["whirr_error", "whirr_detail", "whirr_topic"],
        ),
    }


def _cloud_event(kind: str, source: str) -> dict[str, dict[str, Any]]:
    return {
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"const": kind},
        "ce_id": {"type": "string", "minLength": 1, "description": "identity; the same when it is sent again"},
        "ce_source": {"type": "string", "description": source},
        "ce_time": {"type": "string", "format": "date-time", "description": "RFC 3339 with an offset"},
    }


def _reason() -> dict[str, dict[str, Any]]:
    codes = "; ".join(f"{code}: {meaning}" for code, meaning in ERROR_CODES.items())
    return {
        "whirr_error": {"enum": list(ERROR_CODES), "description": codes},
        "whirr_detail": {"type": "string", "description": "the offending value and what was expected"},
        "whirr_topic": {"type": "string", "minLength": 1, "description": "topic that the record came from"},
        "whirr_partition": {"type": "string", "pattern": _DIGITS, "description": "its partition"},
        "whirr_offset": {"type": "string", "pattern": _DIGITS, "description": "its offset"},
        "whirr_timestamp_ms": {"type": "string", "pattern": r"^-?[0-9]{1,19}$", "description": "its timestamp"},
        "whirr_first_offset": {
            "type": "string",
            "pattern": _DIGITS,
            "description": "of records that can't be read, the first one's offset; whirr_offset is the last one's",
        },
    }


def _header_map(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "$schema": DIALECT,
        "$id": f"urn:whirr:schema:{name}:v1",
        "title": "".join(word.capitalize() for word in name.split("_")),
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
    }


if __name__ == "__main__":
    main()
