r"""Foreign text on a terminal: what a gateway, a file name or a model says is shown, and never obeyed.

Ids, headers, file names and the messages that quote them come from anybody. Escape sequences in them can clear the
screen, set the window's title or write to the clipboard; a line break can forge a line of a log; marks that change the
direction of writing can make one name look like another. :func:`printable` shows all of these as Python would write
them (``\x1b``, ``\u202e``), and everything that Whirr prints or logs for people goes through it.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import unicodedata
from dataclasses import asdict, is_dataclass
from types import TracebackType
from typing import Any

import orjson

# Controls (C0 and C1, which some terminals obey as well), format characters (directions, joiners, tags), halves of
# surrogate pairs, private and unassigned characters, and what separates lines and paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_UNDECODED = range(0xDC80, 0xDD00)  # how Python keeps the bytes of a file's name that are no UTF-8
_IN_JSON = re.compile(
    "[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff\ud800-\udfff]"
)


def printable(text: object, keep: str = "") -> str:
    r"""Return a text as one line that a terminal only shows.

    Args:
        text: What to show; ``str()`` of it counts.
        keep: Characters to leave as they are, such as ``"\n"`` for a text of several lines.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(one if one in keep or not _unseen(one) else _escaped(one) for one in shown)


def _unseen(one: str) -> bool:
    return unicodedata.category(one) in _UNSEEN


def _escaped(one: str) -> str:
    code = ord(one)
    if code in _UNDECODED:
        code -= 0xDC00
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(one)
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def json_text(value: Any) -> str:
    """Return a value (anything that orjson takes, numpy arrays too) as a JSON text that a terminal only shows."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    try:
        return json_line(orjson.dumps(value, option=options, default=str).decode())
    except TypeError:  # a name that is no UTF-8
        return json_line(orjson.dumps(_utf8(value), option=options, default=str).decode())


def _utf8(value: Any) -> Any:
    """Return a value with what is no UTF-8 in its texts escaped."""
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {_utf8(key): _utf8(one) for key, one in value.items()}
    return [_utf8(one) for one in value] if isinstance(value, list | tuple) else value


def json_line(text: str) -> str:
    """Return a JSON text as one line that a terminal only shows, and that means the same.

    JSON itself keeps the first 32 control characters out of its strings, but not the others that a terminal obeys.
    """
    flat = re.sub(r"[\r\n\t]", " ", text)  # outside strings: JSON allows none of them inside
    return _IN_JSON.sub(_json_escaped, flat)


def _json_escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


class PrintableFormatter(logging.Formatter):
    """Formats log records so that a terminal only shows them; line breaks stay in tracebacks alone."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as it is printed."""
        record.message = printable(record.getMessage())
        said = self.formatMessage(record)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        return "\n".join(filter(None, (said, record.exc_text)))

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's own name
        """Return a traceback that a terminal only shows."""
        return printable(super().formatException(ei), keep="\n")  # type: ignore[arg-type]


def show_safely() -> None:
    """Let what Python itself prints (tracebacks, log records that nobody handles) be shown and not obeyed.

    Characters that an output's encoding lacks are escaped too, in place of an error in the middle of an output.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.excepthook = _print_traceback
    sys.unraisablehook = _print_unraisable
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter())


def _print_unraisable(args: Any) -> None:
    """Print what was raised where nobody can catch it, but not of an event loop that Ctrl-C kept from being made."""
    # Python 3.14 names the object in the message alone.
    said = f"{args.err_msg or 'Exception ignored in'}{'' if args.object is None else f': {args.object!r}'}"
    if "<function BaseEventLoop.__del__" in said and args.exc_type is AttributeError:
        return
    if sys.stderr is not None:
        trace = "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))
        sys.stderr.write(printable(f"{said}\n{trace}", keep="\n"))


def _print_traceback(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    if sys.stderr is not None:
        sys.stderr.write(printable("".join(traceback.format_exception(kind, error, at)), keep="\n"))
