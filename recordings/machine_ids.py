"""Machine ids: what the names of folders become on the wire."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from schemas.errors import RecordingError
from schemas.frame import MACHINE_ID

MAX_CHARS: Final = 128
# What stripping the marks of letters doesn't give.
_LETTERS: Final = str.maketrans(
    dict(zip("äöüßæøœłđðÄÖÜÆØŒŁĐ", "ae oe ue ss ae oe oe l d d Ae Oe Ue Ae Oe Oe L D".split(), strict=True))  # noqa: SIM905
)
_OTHERS = re.compile(r"[^A-Za-z0-9._:]+")
HOW: Final = "give --machine, or --pattern with {machine}, or a column 'machine' in --labels"


def machine_id(name: str) -> str:
    """Return the machine id of a folder's name: the name itself, if the wire allows it.

    Else letters lose their marks (``ü`` becomes ``ue``), and whatever else is not allowed becomes one ``-``:
    ``Pump 7`` is ``Pump-7``, ``Lüfter-1`` is ``Luefter-1``. It depends on the name alone.

    Raises:
        RecordingError: A letter or digit has no counterpart (``泵-7``), nothing is left, or it is longer than 128.
    """
    if MACHINE_ID.fullmatch(name):
        return name
    spelt = unicodedata.normalize("NFC", name).translate(_LETTERS)
    spelt = "".join(char for char in unicodedata.normalize("NFKD", spelt) if not unicodedata.combining(char))
    lost = next((char for char in spelt if char.isalnum() and not char.isascii()), None)
    found = _OTHERS.sub("-", spelt.replace("-", " ")) if lost is None else ""
    found = found.strip("-")
    if not any(char.isalnum() for char in found) or len(found) > MAX_CHARS:
        why = "it is too long" if len(found) > MAX_CHARS else "nothing is left of it"
        why = why if lost is None else f"{lost!r} has no counterpart"
        raise RecordingError(
            f"folder {name[:MAX_CHARS]!r} can't name a machine: an id is 1 to {MAX_CHARS} of A-Z a-z 0-9 . _ : - and "
            f"{why}; {HOW}"
        )
    return found
