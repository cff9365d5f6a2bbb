"""Patterns of machine ids, as routes have them: which can match at all, and which leave nothing to another.

As in :mod:`fnmatch`: ``*`` any characters, ``?`` one, ``[abc]`` and ``[!abc]`` one of, or none of, several.
"""

from __future__ import annotations

import re
import string
from fnmatch import fnmatchcase
from typing import Final

_IN_IDS: Final = string.ascii_letters + string.digits + "._:-"
_MOST: Final = 128
_PARTS: Final = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)


def check_pattern(pattern: str) -> None:
    """Return if the id of some machine matches.

    Raises:
        ValueError: None can: ids are 1 to 128 of ``A-Z a-z 0-9 . _ : -``.
    """
    parts = [part for part in _PARTS.findall(pattern) if part != "*"]
    if not pattern:
        raise ValueError("match is '', which is no machine's id; expected a pattern such as pump-* or *")
    wrong = next((part for part in parts if not any(fnmatchcase(one, part) for one in _IN_IDS)), None)
    if wrong is not None:
        raise ValueError(
            f"match is {pattern!r}, but no machine's id can have {wrong!r}; ids are 1 to {_MOST} of A-Z a-z 0-9 . _ : -"
        )
    if len(parts) > _MOST:
        raise ValueError(f"match needs ids of {len(parts)} characters or more; ids have at most {_MOST}")


def covers(pattern: str, other: str) -> bool:
    """Whether each id that ``other`` matches is one that ``pattern`` matches; False where that isn't plain to see."""
    if pattern == other or not pattern.strip("*"):
        return True
    if "[" in other or (("*" in other or "?" in other) and ("?" in pattern or "[" in pattern)):
        return False
    # What an asterisk takes may as well be a question mark or an asterisk; nothing else in it takes one.
    return fnmatchcase(other, pattern)
