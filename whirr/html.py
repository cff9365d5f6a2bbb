"""Foreign text in a page: ids, names of files and models are shown, and are never part of the page's own code."""

from __future__ import annotations

from html import escape as _escape
from typing import Any, Final

from whirr.terminal import json_text, printable

# In JSON these stand in strings alone, where \\u003c means the same as <. Without them no element ends, begins, or
# turns into a comment (<!--<script> hides all that follows) whatever a name holds.
_IN_SCRIPT: Final = str.maketrans({one: f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"})


def escape(text: object) -> str:
    """Return a text for an element or a quoted attribute; what can't be seen is written out."""
    return _escape(printable(text))


def script_json(value: Any) -> str:
    """Return a value as JSON that can stand within a script element; it means the same to whoever parses it."""
    return json_text(value).translate(_IN_SCRIPT)
