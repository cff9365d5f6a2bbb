"""Layouts: what the path of a recording says of it, in the ways that data sets and plants are laid out.

| layout | example | machine | label | part |
|---|---|---|---|---|
| a folder for each machine | ``pump-1/test/anomaly_7.wav`` | ``pump-1`` | anomaly | test |
| one machine | ``normal/7.wav``, ``test/abnormal_7.wav`` | not told | both | train, test |
| MIMII | ``fan/id_00/abnormal/00000007.wav`` | ``fan-id_00`` | anomaly | not told |
| DCASE 2020 | ``fan/train/normal_id_00_00000007.wav`` | ``fan-id_00`` | normal | train |
| DCASE from 2021 on | ``fan/test/section_01_target_test_anomaly_0007_….wav`` | ``fan-section_01`` | anomaly | test |

Whatever a path does not say is None: a label that is not there is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from schemas.frame import MACHINE_ID

Label = Literal["normal", "anomaly"]
Part = Literal["train", "test"]

# A folder must be named for its label alone: a machine may be called normaliser-2.
LABEL_FOLDER: Final = re.compile(r"normals?|abnormals?|anomal(y|ies|ous)", re.IGNORECASE)
# "abnormal" contains "normal", so this is looked for first.
_ANOMALOUS = re.compile(r"anomal|abnormal", re.IGNORECASE)
_NORMAL = re.compile(r"normal", re.IGNORECASE)
_UNIT_FOLDER = re.compile(r"id_\d+")
_DCASE_2020 = re.compile(r"(?:normal|anomaly)_(?P<unit>id_\d+)_\d+")
_DCASE_2021 = re.compile(r"(?P<unit>section_\d+)_(?:source|target)_(?P<part>train|test)_(?:normal|anomaly)_\d+(_.*)?")
_PARTS: Final[dict[str, Part]] = {"train": "train", "test": "test"}


@dataclass(frozen=True, slots=True)
class Place:
    """What a recording's path says.

    Attributes:
        machine: Whose it is, a machine id, or None.
        label: What it is labelled, or None.
        part: Which part of the data set it belongs to, or None.
    """

    machine: str | None
    label: Label | None
    part: Part | None


def place(name: str, folder: Path) -> Place:
    """Return what a recording's path says.

    Args:
        name: Path relative to ``folder``, with forward slashes.
        folder: The folder that the recordings were looked for in. Its own name counts only for the kind of machine
            where the name tells no more than its number (``id_00/normal/7.wav`` in ``fan``).
    """
    *folders, file = name.split("/")
    return Place(_machine(folders, PurePosixPath(file).stem, folder), label_of(name), _part(folders, file))


def label_of(name: str) -> Label | None:
    """Return the label that a recording's name gives, or None.

    The file's own name counts first (it contains ``anomal`` or ``abnormal``, else ``normal``), then the innermost
    folder that is named for a label alone (``normal``, ``anomaly``, ``anomalies``, ``anomalous``, ``abnormal``).

    Args:
        name: Path relative to the folder that is looked at, with forward slashes.
    """
    *folders, file = name.split("/")
    stem = PurePosixPath(file).stem
    for text in (stem, *(folder for folder in reversed(folders) if LABEL_FOLDER.fullmatch(folder))):
        if _ANOMALOUS.search(text):
            return "anomaly"
        if _NORMAL.search(text):
            return "normal"
    return None


def machine_of(name: str, folder: Path) -> str:
    """Return whose a recording is, by its path or else by the folders that it was looked for in.

    Folders named ``train``, ``test`` or for a label are no machines; ``machine`` stands where there is no name.
    """
    return place(name, folder).machine or _home(folder) or "machine"


def _machine(folders: list[str], stem: str, folder: Path) -> str | None:
    unit = _unit(folders, stem)
    if unit is None:
        # A folder's own name is looked at by those who need a machine at any rate.
        return _kind(folders[:1])
    index = folders.index(unit) if unit in folders else len(folders)
    kind = _kind(reversed(folders[:index])) or _home(folder)
    both = f"{kind}-{unit}" if kind else unit
    return both if MACHINE_ID.fullmatch(both) else unit


def _unit(folders: list[str], stem: str) -> str | None:
    """Return which of a kind of machine it is, where the layout numbers them."""
    for pattern in (_DCASE_2020, _DCASE_2021):
        if match := pattern.fullmatch(stem):
            return match["unit"]
    return next((folder for folder in folders if _UNIT_FOLDER.fullmatch(folder)), None)


def _part(folders: list[str], file: str) -> Part | None:
    if match := _DCASE_2021.fullmatch(PurePosixPath(file).stem):
        return _PARTS[match["part"]]
    return next((_PARTS[folder] for folder in reversed(folders) if folder in _PARTS), None)


def _kind(names: Iterable[str]) -> str | None:
    return next((name for name in names if _may_be_machine(name)), None)


def _home(folder: Path) -> str | None:
    """Return the machine that a folder itself is named for: ``fan-id_00`` for ``fan/id_00/normal``."""
    home = folder.absolute()
    names = [home.name, home.parent.name, home.parent.parent.name]
    while names and (names[0] in _PARTS or LABEL_FOLDER.fullmatch(names[0])):
        del names[0]
    if len(names) > 1 and _UNIT_FOLDER.fullmatch(names[0]) and _may_be_machine(names[1]):
        return f"{names[1]}-{names[0]}"
    return _kind(names[:2])


def _may_be_machine(name: str) -> bool:
    return name not in _PARTS and not LABEL_FOLDER.fullmatch(name) and bool(MACHINE_ID.fullmatch(name))
