"""Templates of paths: ``{machine}/{source}_{time}*`` says where in a path machine, sensor and time are.

``{rpm}`` and ``{load}`` say how the machine ran.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from recordings.name_times import NoTimestamp, time_format, time_in
from schemas.condition import Condition
from schemas.errors import SettingsError

_FIELDS: Final = {
    "machine": "[^/]+?",
    "source": "[^/]+?",
    "rpm": r"(?=[\d.]*[1-9])\d{1,9}(?:\.\d{1,9})?",  # above 0
    "load": r"-?\d{1,9}(?:\.\d{1,9})?",
    "time": r"\d[\dTZhmsAPMapmUCG:._, +-]*",
}
_PART = re.compile(r"\{(?P<field>\w*)(?::(?P<form>[^{}]+))?\}|(?P<star>\*)|(?P<text>[^{*]+)|(?P<other>.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Named:
    """What a path says by a template; None for what the template leaves out."""

    machine: str | None
    source: str | None
    start: int | NoTimestamp | None
    condition: Condition


class Pattern:
    """A template of paths without suffix.

    ``{machine}``, ``{source}``, ``{time}``, ``{rpm}`` and ``{load}`` may each stand in it once; ``*`` is anything.
    ``{time:%d.%m.%Y_%H%M%S}`` states a form of ``strftime`` for times that :mod:`recordings.name_times` can't tell.

    Raises:
        SettingsError: Another field, the same one twice, a lone brace, or a form that is no time's.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self._read_time: Callable[[str, tzinfo], int | NoTimestamp] = time_in
        parts, seen = [], set()
        for match in _PART.finditer(template):
            field, form = match["field"], match["form"]
            if match["star"]:
                parts.append(".*?")
            elif match["text"]:
                parts.append(re.escape(match["text"]))
            elif field in _FIELDS and field not in seen and (form is None or field == "time"):
                expression = _FIELDS[field]
                if form is not None:
                    expression, self._read_time = time_format(form, f"pattern {template!r}")
                parts.append(f"(?P<{field}>{expression})")
                seen.add(field)
            else:
                expected = (
                    "{machine}, {source}, {rpm}, {load}, {time} or {time:%Y%m%d_%H%M%S}, each at most once, and *"
                )
                raise SettingsError(f"pattern {template!r}: {match[0]!r} can't stand there; expected {expected}")
        self._expression = re.compile("".join(parts))

    def read(self, stem: str, zone: tzinfo) -> Named | None:
        """Return what a path without suffix says, or None if it doesn't match the template."""
        match = self._expression.fullmatch(stem)
        if match is None:
            return None
        fields = match.groupdict()
        time = fields.get("time")
        start = None if time is None else self._read_time(time, zone)
        stated = (fields.get(name) for name in Condition._fields)
        condition = Condition(*(None if text is None else float(text) for text in stated))
        return Named(fields.get("machine"), fields.get("source"), start, condition)
