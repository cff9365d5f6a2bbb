"""Log lines: the same fields from Whirr, Faust and aiokafka, for machines or for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from stream_app.logs import configure_logging


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    names = ("aiokafka", "alembic", "asyncio", "faust", "mlflow", "mode")
    before = root.level, root.handlers[:], {name: logging.getLogger(name).level for name in names}
    yield
    root.level, root.handlers[:] = before[:2]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_machines_get_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logging.getLogger("stream_app.runner").info("worker %s takes %s", "w-1", "vibration-frames")
    logging.getLogger("aiokafka.conn").error("Ünable to connect")
    logging.getLogger("aiokafka.conn").warning("not worth a line")
    logging.getLogger("faust.app").info("nor this")
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logging.getLogger("stream_app.app").exception("could not go on", extra={"partition": 3})
    first, second, third = map(json.loads, said(capsys))
    assert (first["level"], first["logger"], first["event"]) == (
        "info", "stream_app.runner", "worker w-1 takes vibration-frames"
    )  # fmt: skip
    assert first["timestamp"].endswith("Z")
    assert (second["logger"], second["event"]) == ("aiokafka.conn", "Ünable to connect")
    assert third["partition"] == 3
    assert "ValueError: what went wrong" in third["exception"]


def test_people_get_a_line_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    logging.getLogger("stream_app.runner").warning("Kafka at %s can't be reached", "kafka:9092")
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logging.getLogger("stream_app.app").exception("could not go on", extra={"partition": 3})
    lines = said(capsys)
    assert lines[0].endswith("WARNING  stream_app.runner: Kafka at kafka:9092 can't be reached")
    assert lines[1].endswith("ERROR    stream_app.app: could not go on partition=3")
    assert lines[-1] == "ValueError: what went wrong"


def test_without_a_terminal_it_is_json_unless_told(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.getLogger("whirr").info("here")
    assert json.loads(said(capsys)[0])["event"] == "here"


def test_debug_lets_libraries_speak(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")
    logging.getLogger("faust.app").info("hello")
    assert [json.loads(line)["event"] for line in said(capsys)] == ["hello"]
