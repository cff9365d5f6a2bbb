"""For ``make docs``: the roles in docstrings (``:class:`~a.B```) become links where a page has what they name."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")


def _linked(role: re.Match[str]) -> str:
    shown = role[2].rpartition(".")[2] if role[1] else role[2]
    return f'<autoref optional identifier="{role[2]}"><code>{shown}</code></autoref>'


class Roles(Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Take one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(_linked, obj.docstring.value)
