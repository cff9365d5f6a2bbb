"""What a worker logs, and how: one line an event on standard error, for people or for machines.

Whirr's, Faust's and aiokafka's loggers are all Python's own; structlog renders what they say, so that every line has
the same fields. What is said too often is left out and counted: neither a gateway nor a broker that has gone can fill
the disk, or bury the line that matters.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from whirr.terminal import json_text, printable

LogFormat = Literal["auto", "text", "json"]

_NOISY = {
    "aiokafka": logging.ERROR,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "faust": logging.WARNING,
    "mlflow": logging.ERROR,
    "mode": logging.WARNING,
}
LINES_PER_MIN = 10  # warnings and errors from one place in Whirr's code
LIBRARY_LINES = 5  # of one library at once, and as many in ten minutes from then on
_TOLD_EVERY_S = 60.0
_MOST_EVENT, _MOST_FIELD, _MOST_TRACEBACK = 2_000, 500, 10_000


@dataclass(slots=True)
class _LogRate:
    """What one place in the code has said of late."""

    may_say: float
    at_s: float
    left_out: int = 0
    since_s: float = 0.0
    last: logging.LogRecord | None = None


class LimitedHandler(logging.StreamHandler[Any]):
    """Writes at most so many warnings and errors a minute from one place in the code, and tells how many it left out.

    A library counts as one place, and is heard less: it has no end of ways to say that Kafka has gone. Critical lines,
    each of which ends the worker, are always written.

    Args:
        lines_per_min: As many at once after a quiet minute, and so many a minute from then on.
        clock_s: Monotonic time.
    """

    def __init__(self, lines_per_min: int = LINES_PER_MIN, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most = lines_per_min
        self._clock_s = clock_s
        self._places: dict[tuple[str, int], _LogRate] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless its like was written too often."""
        now_s = self._clock_s()
        self._tell_left_out(now_s, _TOLD_EVERY_S)
        if self._may_say(record, now_s):
            super().emit(record)

    def close(self) -> None:
        """Tell what was left out until now."""
        self._tell_left_out(self._clock_s(), 0.0)
        super().close()

    def _may_say(self, record: logging.LogRecord, now_s: float) -> bool:
        if not logging.WARNING <= record.levelno < logging.CRITICAL:
            return True
        library = record.name.partition(".")[0]
        foreign = library in _NOISY
        place = (library, 0) if foreign else (record.pathname, record.lineno)
        most, again_s = (LIBRARY_LINES, 600.0) if foreign else (self._most, 60.0)
        said = self._places.setdefault(place, _LogRate(most, now_s))
        said.may_say = min(most, said.may_say + (now_s - said.at_s) * most / again_s)
        said.at_s = now_s
        if said.may_say >= 1:
            said.may_say -= 1
            return True
        if not said.left_out:
            said.since_s = now_s
        said.left_out += 1
        said.last = record
        return False

    def _tell_left_out(self, now_s: float, after_s: float) -> None:
        for said in self._places.values():
            if said.last is None or now_s - said.since_s < after_s:
                continue
            told = logging.LogRecord(
                said.last.name,
                said.last.levelno,
                said.last.pathname,
                said.last.lineno,
                "%d lines like this one were left out: %s",
                (said.left_out, said.last.getMessage()),
                None,
            )
            said.left_out, said.last = 0, None
            super().emit(told)


def configure_logging(level: str, log_format: LogFormat = "auto") -> None:
    """Log one line an event on standard error; libraries only when something is wrong, unless ``level`` is debug.

    Args:
        level: Least level that is logged.
        log_format: ``text``; ``json``: one object a line with timestamp, level, logger, event, exception; or ``auto``:
            text on a terminal, else JSON.
    """
    as_json = not sys.stderr.isatty() if log_format == "auto" else log_format == "json"
    handler = LimitedHandler()
    handler.setFormatter(_formatter(as_json))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        for name, least in _NOISY.items():
            logging.getLogger(name).setLevel(least)


def _formatter(as_json: bool) -> logging.Formatter:
    std = structlog.stdlib
    shared: list[Any] = [std.add_log_level, std.add_logger_name, std.ExtraAdder()]
    last: list[Any] = [_cut, _line]
    if as_json:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
        last = [structlog.processors.format_exc_info, _cut, structlog.processors.JSONRenderer(serializer=_json)]
    else:
        shared.append(structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False))
    return std.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[std.ProcessorFormatter.remove_processors_meta, *last]
    )


def _cut(_logger: Any, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    """Cut what is too long: of a traceback the beginning, of all else the end."""
    for name, value in event.items():
        if not isinstance(value, str):
            continue
        most = _MOST_EVENT if name == "event" else _MOST_FIELD
        if name == "exception":
            event[name] = cut_traceback(value)
        elif len(value) > most:
            event[name] = f"{value[:most]}… ({len(value)} characters)"
    return event


def cut_traceback(text: str) -> str:
    """Return the last 10,000 characters of a traceback: the error, and where it was raised."""
    return text if len(text) <= _MOST_TRACEBACK else f"… {text[-_MOST_TRACEBACK:]}"


def _json(event: dict[str, Any], **_: Any) -> str:
    return json_text(event)


def _line(_logger: Any, _name: str, event: dict[str, Any]) -> str:
    """Return an event as people read it: when, how bad, who, what."""
    error = event.pop("exc_info", None)
    said = f"{event.pop('timestamp')} {event.pop('level').upper():8} {event.pop('logger')}: {event.pop('event')}"
    said = printable(said + "".join(f" {name}={value}" for name, value in event.items()))
    if error:
        said += "\n" + printable(
            cut_traceback(logging.Formatter().formatException(sys.exc_info() if error is True else error)), keep="\n"
        )
    return said
