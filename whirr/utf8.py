"""Whether a text can leave this program: Python keeps bytes that are no UTF-8 as halves of surrogate pairs."""

from __future__ import annotations

from pathlib import Path

EXPECTED = "is not UTF-8; expected text in UTF-8"


def is_utf8(value: object) -> bool:
    """Whether a value is no text or path, or one that UTF-8 can tell."""
    if not isinstance(value, str | Path):
        return True
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True
