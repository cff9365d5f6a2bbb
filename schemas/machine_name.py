"""A machine's id within the name of its registered model, and back.

Ids have ``A-Z a-z 0-9 . _ : -``; names of models the same without the colon, which MLflow forbids. A colon becomes
``_-.``, and ``_-``, so that it is not taken for the beginning of one, ``_--``. All other ids stand as they are.
"""

from __future__ import annotations

import re
from typing import Final

MAX_MODEL_NAME: Final = 200  # characters: copies of models are named after them, with a version and a digest
_MACHINE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ESCAPE: Final = {":": "_-.", "_-": "_--"}
_UNESCAPE: Final = {escaped: plain for plain, escaped in _ESCAPE.items()}


def name_of(machine_id: str) -> str:
    """Return a machine's id as it stands in the name of a model; no two ids give the same."""
    return re.sub(":|_-", lambda found: _ESCAPE[found[0]], machine_id)


def machine_of(name: str) -> str | None:
    """Return the machine's id that :func:`name_of` turned into ``name``; None where it is no machine's."""
    machine_id = re.sub(r"_-[.-]", lambda found: _UNESCAPE[found[0]], name)
    return machine_id if _MACHINE.fullmatch(machine_id) and name_of(machine_id) == name else None
