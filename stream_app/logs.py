"""What a worker logs, and how: one line an event on standard error, for people or for machines.

Whirr's, Faust's and aiokafka's loggers are all Python's own; structlog renders what they say, so that every line has
the same fields.
"""

from __future__ import annotations

import logging
import sys
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


def configure_logging(level: str, log_format: LogFormat = "auto") -> None:
    """Log one line an event on standard error; libraries only when something is wrong, unless ``level`` is debug.

    Args:
        level: Least level that is logged.
        log_format: ``text``; ``json``: one object a line with timestamp, level, logger, event, exception; or ``auto``:
            text on a terminal, else JSON.
    """
    as_json = not sys.stderr.isatty() if log_format == "auto" else log_format == "json"
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(as_json))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        for name, least in _NOISY.items():
            logging.getLogger(name).setLevel(least)


def _formatter(as_json: bool) -> logging.Formatter:
    std = structlog.stdlib
    shared: list[Any] = [std.add_log_level, std.add_logger_name, std.ExtraAdder()]
    last: list[Any] = [_line]
    if as_json:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    else:
        shared.append(structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False))
    return std.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[std.ProcessorFormatter.remove_processors_meta, *last]
    )


def _json(event: dict[str, Any], **_: Any) -> str:
    return json_text(event)


def _line(_logger: Any, _name: str, event: dict[str, Any]) -> str:
    """Return an event as people read it: when, how bad, who, what."""
    error = event.pop("exc_info", None)
    said = f"{event.pop('timestamp')} {event.pop('level').upper():8} {event.pop('logger')}: {event.pop('event')}"
    said = printable(said + "".join(f" {name}={value}" for name, value in event.items()))
    if error:
        said += "\n" + printable(
            logging.Formatter().formatException(sys.exc_info() if error is True else error), keep="\n"
        )
    return said
