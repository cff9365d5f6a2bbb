"""Log lines: the same fields from Whirr, Faust and aiokafka, for machines or for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from whirr.logs import LimitedHandler, configure_logging


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    names = ("aiokafka", "alembic", "asyncio", "faust", "mlflow", "mode")
    before = root.level, root.handlers[:], {name: logging.getLogger(name).level for name in names}
    for name in names:  # commands silence libraries for the rest of their process
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    root.level, root.handlers[:] = before[:2]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_machines_get_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logging.getLogger("stream_app.worker.runner").info("worker %s takes %s", "w-1", "vibration-frames")
    logging.getLogger("aiokafka.conn").error("Ünable to connect")
    logging.getLogger("aiokafka.conn").warning("not worth a line")
    logging.getLogger("faust.app").info("nor this")
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logging.getLogger("stream_app.worker.app").exception("could not go on", extra={"partition": 3})
    first, second, third = map(json.loads, said(capsys))
    assert (first["level"], first["logger"], first["event"]) == (
        "info", "stream_app.worker.runner", "worker w-1 takes vibration-frames"
    )  # fmt: skip
    assert first["timestamp"].endswith("Z")
    assert (second["logger"], second["event"]) == ("aiokafka.conn", "Ünable to connect")
    assert third["partition"] == 3
    assert "ValueError: what went wrong" in third["exception"]


def test_people_get_a_line_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    logging.getLogger("stream_app.worker.runner").warning("Kafka at %s can't be reached", "kafka:9092")
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logging.getLogger("stream_app.worker.app").exception("could not go on", extra={"partition": 3})
    lines = said(capsys)
    assert lines[0].endswith("WARNING  stream_app.worker.runner: Kafka at kafka:9092 can't be reached")
    assert lines[1].endswith("ERROR    stream_app.worker.app: could not go on partition=3")
    assert lines[-1] == "ValueError: what went wrong"


def test_without_a_terminal_it_is_json_unless_told(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.getLogger("whirr").info("here")
    assert json.loads(said(capsys)[0])["event"] == "here"


def test_debug_lets_libraries_speak(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")
    logging.getLogger("faust.app").info("hello")
    assert [json.loads(line)["event"] for line in said(capsys)] == ["hello"]


def limited(clock: list[float]) -> logging.Logger:
    logging.getLogger().handlers[:] = [LimitedHandler(clock_s=lambda: clock[0])]
    logging.getLogger().setLevel("INFO")
    return logging.getLogger("stream_app.test")


def test_what_is_said_too_often_is_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    log = limited(clock)
    for number in range(1000):
        log.warning("machine %s is strange", f"made-up-{number}")
    log.error("another place is heard")
    lines = said(capsys)
    assert lines == [f"machine made-up-{number} is strange" for number in range(10)] + ["another place is heard"]
    clock[0] = 61.0
    log.info("later")
    assert said(capsys) == ["990 lines like this one were left out: machine made-up-999 is strange", "later"]
    for _ in range(3):
        log.warning("machine %s is strange", "pump-1")
    assert len(said(capsys)) == 3, "and it may speak again"


def test_at_the_end_it_is_told_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    log = limited([0.0])
    for _ in range(5900):
        log.error("Unable to connect")
    logging.getLogger().handlers[0].close()
    assert len(lines := said(capsys)) == 11
    assert lines[-1].startswith("5890 lines like this one")


def test_a_library_counts_as_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    limited(clock)
    for clock[0] in range(300):  # five minutes without Kafka
        for number in range(20):
            logging.getLogger(f"aiokafka.part{number}").error("Unable to connect")
    assert len(said(capsys)) == 5 + 2 + 4, "and once a minute how many were left out"


def test_information_and_what_ends_the_worker_are_never_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    log = limited([0.0])
    for number in range(50):
        log.info("%d", number)
        log.critical("%d", number)
    assert len(said(capsys)) == 100


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_too_long_is_cut(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", log_format)  # type: ignore[arg-type]
    try:
        raise ValueError("y" * 1_000_000)
    except ValueError:
        logging.getLogger("stream_app").exception("x" * 1_000_000, extra={"key": "z" * 1_000_000})
    text = capsys.readouterr().err
    assert len(text) < 20_000
    assert "(1000000 characters)" in text
