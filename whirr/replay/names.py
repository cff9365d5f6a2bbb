"""Templates of names: ``{machine}/{source}/{time}_*`` says where in a path machine, sensor and time are."""

from __future__ import annotations

import re

from whirr.errors import SettingsError

_FIELDS = {
    "machine": r"(?P<machine>[A-Za-z0-9._:-]+?)",
    "source": r"(?P<source>[^/]+?)",
    "time": r"(?P<time>\d[\dTZhm:._, +-]*)",
}
_PART = re.compile(r"\{(?P<field>\w*)\}|(?P<star>\*)|(?P<text>[^{*]+)|(?P<other>.)")


def compile_pattern(template: str) -> re.Pattern[str]:
    """Return the regular expression that a template of paths (without suffix) stands for.

    ``{machine}``, ``{source}`` and ``{time}`` may each stand in it once; ``*`` is anything.

    Raises:
        SettingsError: Another field, the same one twice, or a lone brace.
    """
    parts, seen = [], set()
    for match in _PART.finditer(template):
        field = match["field"]
        if match["star"]:
            parts.append(".*?")
        elif match["text"]:
            parts.append(re.escape(match["text"]))
        elif field in _FIELDS and field not in seen:
            parts.append(_FIELDS[field])
            seen.add(field)
        else:
            expected = "{machine}, {source}, {time}, each at most once, and *"
            raise SettingsError(f"pattern {template!r}: {match[0]!r} can't stand there; expected {expected}")
    return re.compile("".join(parts))
