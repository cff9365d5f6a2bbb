"""The labelled set: which recordings of a folder are evaluated, whose they are, and what they are labelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from schemas.frame import MACHINE_ID
from trainer.evaluation.labels import LabelRow, read_labels
from trainer.recordings import OnError, Problem, Recording, audio_files, describe, natural_key, notes_of
from trainer.recordings import describe_problems as describe_problems_of
from whirr.errors import RecordingError
from whirr.layouts import Label, label_of, machine_of
from whirr.recordings import SUFFIXES, is_recording

TRAIN: Final = "train"
_NO_LABEL: Final = "no label: neither its name nor a folder's says normal, anomaly or abnormal"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A recording with its label; ``onset_s`` is where in it the fault begins, if that is known."""

    recording: Recording
    label: Label
    onset_s: float | None = None

    @property
    def anomalous(self) -> bool:
        """Whether it is labelled as an anomaly."""
        return self.label == "anomaly"

    @property
    def name(self) -> str:
        """Path relative to the folder."""
        return self.recording.name


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """What is evaluated.

    Attributes:
        folder: Where the recordings are.
        machines: By machine: the normals in time order (names sorted with numbers as numbers), then the anomalies.
        problems: Files that are not used, and why.
        in_train: Files that were left out because they lie in a folder named ``train``.
    """

    folder: Path
    machines: Mapping[str, tuple[Labelled, ...]]
    problems: tuple[Problem, ...]
    in_train: int

    @property
    def recordings(self) -> tuple[Labelled, ...]:
        """All recordings."""
        return tuple(one for own in self.machines.values() for one in own)

    @property
    def notes(self) -> list[str]:
        """What is to be said about the recordings as they were read."""
        return notes_of(one.recording for one in self.recordings)


def find_labelled(
    folder: Path,
    labels: Path | None = None,
    machine: str | None = None,
    on_error: OnError = "skip",
    columns: Sequence[str] = (),
) -> LabelledSet:
    """Return the labelled recordings under a folder.

    Paths name the machine and the label in the ways of :mod:`whirr.layouts`; where they name no machine, the folder
    itself does. Folders named ``train`` are left out, unless ``labels`` lists what is in them.

    Args:
        folder: Searched recursively for recordings: audio, and tables of samples with a stated rate.
        labels: CSV file of labels in place of the names: see :func:`trainer.evaluation.labels.read_labels`.
        machine: Whose recordings these are, in place of what folders and labels say.
        on_error: ``skip`` leaves out files without a label and files that can't be used, and names them; ``fail``
            raises.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.

    Raises:
        RecordingError: The folder is missing or holds no labelled audio, a file can't be used and ``on_error`` is
            ``fail``, ``labels`` is malformed, or ``machine`` is no machine id.
    """
    if not folder.is_dir():
        raise RecordingError(f"{str(folder)!r} is no folder; expected one with labelled recordings")
    if machine is not None and not MACHINE_ID.fullmatch(machine):
        raise RecordingError(f"machine {machine!r} is no machine id; expected {MACHINE_ID.pattern}")
    names, in_train = _names(folder)
    if labels is None:
        rows = {
            name: LabelRow(name=name, label=label, machine=None, onset_s=None, line=0)
            for name in names
            if (label := label_of(name)) is not None
        }
        unlabelled = [Problem(name, _NO_LABEL) for name in names if name not in rows]
    else:
        rows = read_labels(labels, folder)
        unlabelled = [Problem(name, f"no label in {str(labels)!r}") for name in names if name not in rows]
    if not names and not rows:
        raise RecordingError(_nothing(folder, in_train))
    looked_at = _look_at(folder, list(rows.values()), labels, machine, columns)
    return check(
        LabelledSet(
            folder,
            _by_machine(one for one in looked_at if isinstance(one, Labelled)),
            (*unlabelled, *(one for one in looked_at if isinstance(one, Problem))),
            in_train,
        ),
        on_error,
    )


def check(found: LabelledSet, on_error: OnError) -> LabelledSet:
    """Return the set, if it can be evaluated.

    Raises:
        RecordingError: There is no recording, or there are problems and ``on_error`` is ``fail``.
    """
    if found.problems and (on_error == "fail" or not found.machines):
        what = "" if on_error == "fail" else "no usable recording with a label; "
        raise RecordingError(what + describe_problems_of(found.folder, found.problems))
    return found


def _names(folder: Path) -> tuple[list[str], int]:
    """Return the names of audio files outside ``train``, in time order, and how many others there are."""
    outside = audio_files(folder, left_out=TRAIN)
    everything = audio_files(folder, left_out=None)
    names = sorted((path.relative_to(folder).as_posix() for path in outside), key=natural_key)
    return names, len(everything) - len(outside)


def _look_at(
    folder: Path, rows: Sequence[LabelRow], labels: Path | None, machine: str | None, columns: Sequence[str]
) -> list[Labelled | Problem]:
    def one(row: LabelRow) -> Labelled | Problem:
        if not (folder / row.name).is_file():
            return Problem(row.name, f"no such file; line {row.line} of {str(labels)!r} names it")
        if not is_recording(folder / row.name):
            return Problem(row.name, f"no audio; expected {' '.join(SUFFIXES)}")
        found = describe(folder, row.name, machine or row.machine or machine_of(row.name, folder), columns)
        if isinstance(found, Problem):
            return found
        if row.onset_s is not None and row.onset_s >= found.duration_s:
            return Problem(row.name, f"onset_s is {row.onset_s:g}, but it is {found.duration_s:.3g} s long")
        return Labelled(found, row.label, row.onset_s)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, rows))


def _by_machine(found: Iterable[Labelled]) -> dict[str, tuple[Labelled, ...]]:
    machines: dict[str, list[Labelled]] = {}
    for one in found:
        assert one.recording.machine is not None
        machines.setdefault(one.recording.machine, []).append(one)
    return {
        machine: tuple(sorted(own, key=lambda one: (one.anomalous, natural_key(one.name))))
        for machine, own in sorted(machines.items(), key=lambda item: natural_key(item[0]))
    }


def without(found: LabelledSet, problems: Mapping[str, Sequence[Problem]]) -> LabelledSet:
    """Return what is left when recordings turn out to be unusable: by machine, those and why."""
    bad = {machine: {problem.name for problem in own} for machine, own in problems.items()}
    left = {
        machine: tuple(one for one in own if one.name not in bad.get(machine, ()))
        for machine, own in found.machines.items()
    }
    known = (*found.problems, *(problem for own in problems.values() for problem in own))
    return replace(found, machines={machine: own for machine, own in left.items() if own}, problems=known)


def _nothing(folder: Path, in_train: int) -> str:
    looked = f"no audio to evaluate in {str(folder)!r}; looked for {' '.join(SUFFIXES)}, in sub-folders too"
    if not in_train:
        return looked
    return f"{looked}, but for the {in_train} recordings in folders named {TRAIN!r}: name such a folder itself"
