"""Layouts: what the path of a recording says of it, in the ways that data sets and plants are laid out.

| layout | example | machine | label | split |
|---|---|---|---|---|
| a folder for each machine | ``pump-1/test/anomaly_7.wav`` | ``pump-1`` | anomaly | test |
| the splits first | ``Train/pump-1/7.wav``, ``normal/pump-1/7.wav`` | ``pump-1`` | by name or folder | by the folder |
| one machine | ``normal/7.wav``, ``test/abnormal_7.wav`` | not told | both | train, test |
| MIMII | ``fan/id_00/abnormal/00000007.wav`` | ``fan-id_00`` | anomaly | not told |
| DCASE 2020 | ``fan/train/normal_id_00_00000007.wav`` | ``fan-id_00`` | normal | train |
| DCASE from 2021 on | ``fan/test/section_01_target_test_anomaly_0007_….wav`` | ``fan-section_01`` | anomaly | test |

A folder that is named for a date or a time (``2024-05-01``, ``20240501``, ``2024/05/01``) names no machine; the first
one that is named for something else does. Whatever a path does not say is None: a label that is not there is never
guessed. The case of letters counts only in the names of machines. See :mod:`recordings.name_words` for the words,
:mod:`recordings.machine_ids` for the ids.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from recordings.machine_ids import machine_id
from recordings.name_times import is_date
from recordings.name_words import AmbiguousLabel, Label, Split, folder_name, label_in

NOBODY: Final = "machine"  # whose recordings are where no folder has a name
_SHORT_NUMBER = re.compile(r"\d\d?")
_UNIT_FOLDER = re.compile(r"id_\d+", re.IGNORECASE)
_DCASE_2020 = re.compile(r"(?P<label>normal|anomaly)_(?P<unit>id_\d+)_\d+", re.IGNORECASE)
_DCASE_2021 = re.compile(
    r"(?P<unit>section_\d+)_(?:source|target)_(?P<split>train|test)_(?P<label>normal|anomaly)_\d+(_.*)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class PathInfo:
    """What a recording's path says.

    Attributes:
        named: The folder (or kind and unit) that names the machine, as it is written, or None.
        label: What it is labelled, why that can't be told, or None.
        split: Which split of the data set it belongs to, or None.
        folders: Those that are not named for a label, a split or a date alone; where one machine has several of them,
            another of them may be the machine.
    """

    named: str | None
    label: Label | AmbiguousLabel | None
    split: Split | None
    folders: tuple[str, ...] = ()

    @property
    def machine(self) -> str | None:
        """Whose it is, a machine id, or None.

        Raises:
            RecordingError: The folder's name can't be a machine's.
        """
        return None if self.named is None else machine_id(self.named)


def path_info(name: str, folder: Path) -> PathInfo:
    """Return what a recording's path says.

    Args:
        name: Path relative to ``folder``, with forward slashes.
        folder: The folder that the recordings were looked for in. Its own name counts only for the kind of machine
            where the name tells no more than its number (``id_00/normal/7.wav`` in ``fan``).
    """
    *folders, file = name.split("/")
    own = tuple(_own(folders))
    dcase = _dcase(PurePosixPath(file).stem)
    unit = dcase["unit"] if dcase else next((text for text in own if _UNIT_FOLDER.fullmatch(text)), None)
    named = own[0] if own else None
    if unit is not None:
        before = own[: own.index(unit)] if unit in own else own
        kind = before[-1] if before else _home(folder)
        named = f"{kind}-{unit}" if kind else unit
    return PathInfo(named, label_of(name), _split(folders, dcase), own)


def label_of(name: str) -> Label | AmbiguousLabel | None:
    """Return the label that a recording's path gives, None if it gives none, or why it can't be told.

    The file's own name and its folders must not contradict one another.

    Args:
        name: Path relative to the folder that is looked at, with forward slashes.
    """
    *folders, file = name.split("/")
    stem = PurePosixPath(file).stem
    dcase = _dcase(stem)
    own = _as_label(dcase["label"]) if dcase else label_in(stem)
    if isinstance(own, AmbiguousLabel) and not own.yields:
        return own
    told: dict[Label, str] = {} if own is None or isinstance(own, AmbiguousLabel) else {own: "its name"}
    hints: dict[Label, str] = {}
    for text in reversed(folders):
        said = folder_name(text)
        if isinstance(said.label, AmbiguousLabel):
            return said.label
        if said.label is not None:
            told.setdefault(said.label, f"folder {text!r}")
        if said.hint is not None:
            hints.setdefault(said.hint, f"folder {text!r}, among other words,")
    told |= {label: where for label, where in hints.items() if label not in told}
    if len(told) > 1:
        return AmbiguousLabel(f"{told['normal']} says normal, {told['anomaly']} says anomaly")
    for label, where in told.items():
        return AmbiguousLabel(f"{where} says {label}") if where == hints.get(label) else label
    return own if isinstance(own, AmbiguousLabel) else None


def normals_level(name: str) -> tuple[str, ...]:
    """Return the folder beside whose normal recordings others would need a label too, as its names.

    It is the one that the folder named for the label lies in, or else the recording's own, splits aside: ``a`` for
    ``a/healthy/1.wav``, ``a/healthy/pump-1/1.wav`` and ``a/train/normal_1.wav``.

    Args:
        name: Path of a recording that is labelled normal, with forward slashes.
    """
    folders = name.split("/")[:-1]
    labelled = (index for index, text in enumerate(folders) if folder_name(text).label == "normal")
    folders = folders[: next(labelled, len(folders))]
    while folders and folder_name(folders[-1]).is_role:
        folders = folders[:-1]
    return tuple(folders)


def home_machine(folder: Path) -> str | None:
    """Return whose recordings a folder holds by its own name, or by those of the folders that it lies in.

    It is ``fan-id_00`` for ``fan/id_00/normal``, ``pump-1`` for ``pump-1/test``.

    Raises:
        RecordingError: The name can't be a machine's.
    """
    home = _home(folder)
    return None if home is None else machine_id(home)


def _own(folders: Sequence[str]) -> list[str]:
    """Return the folders that may name a machine."""
    dated = _dated(folders)
    return [text for index, text in enumerate(folders) if index not in dated and not folder_name(text).is_role]


def _dated(folders: Sequence[str]) -> set[int]:
    """Return which folders are named for a date or a time: also month and day within a year (``2024/05/01``)."""
    dated: set[int] = set()
    for index, text in enumerate(folders):
        if is_date(text) or (index - 1 in dated and _SHORT_NUMBER.fullmatch(text)):
            dated.add(index)
    return dated


def _dcase(stem: str) -> re.Match[str] | None:
    return _DCASE_2020.fullmatch(stem) or _DCASE_2021.fullmatch(stem)


def _as_label(text: str) -> Label:
    return "normal" if text.lower() == "normal" else "anomaly"


def _split(folders: list[str], dcase: re.Match[str] | None) -> Split | None:
    if dcase is not None and dcase.re is _DCASE_2021:
        return "train" if dcase["split"].lower() == "train" else "test"
    return next((split for text in reversed(folders) if (split := folder_name(text).split)), None)


def _home(folder: Path) -> str | None:
    """Return the name of the machine that a folder itself is named for, as it is written."""
    parts = Path(os.path.abspath(folder)).parts[1:]  # noqa: PTH100 (a link keeps its name)
    parts = parts[-7:]
    dated = _dated(parts)
    while parts and (folder_name(parts[-1]).is_role or len(parts) - 1 in dated):
        parts = parts[:-1]
    names = parts[::-1]
    if len(names) > 1 and _UNIT_FOLDER.fullmatch(names[0]) and not folder_name(names[1]).is_role:
        return f"{names[1]}-{names[0]}"
    return names[0] if names else None
