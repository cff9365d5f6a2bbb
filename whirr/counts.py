"""Counts in messages for people."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None, spec: str = "") -> str:
    """Return a count with what is counted: ``1 frame``, ``2 frames``.

    Args:
        count: How many there are.
        one: What one of them is called, with a verb where one follows: ``frame is``.
        many: What several are called; None for ``one`` and an s.
        spec: How the number is formatted, such as ``,``.
    """
    return f"{count:{spec}} {one if count == 1 else many or one + 's'}"
