"""The labelled set: which recordings of a folder are evaluated, whose they are, and what they are labelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from recordings import SUFFIXES
from recordings.find import Problem, listed, sort_key
from recordings.naming import Known, Namer, Naming
from recordings.words import Label
from schemas.errors import RecordingError
from trainer.recordings import OnError, Recording, describe, notes_of
from trainer.recordings import describe_problems as describe_problems_of

_NO_LABEL: Final = "no label: neither its name nor a folder's says normal, anomaly or the like; say so in --labels"


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
        machines: By machine: the normals in order (see :func:`recordings.find.sort_key`), then the anomalies.
        problems: Files that are not used, and why.
        in_train: Files that were left out because they lie in a folder named ``train``.
        machine_notes: What a person should know of the machines.
    """

    folder: Path
    machines: Mapping[str, tuple[Labelled, ...]]
    problems: tuple[Problem, ...]
    in_train: int
    machine_notes: tuple[str, ...] = ()

    @property
    def recordings(self) -> tuple[Labelled, ...]:
        """All recordings."""
        return tuple(one for own in self.machines.values() for one in own)

    @property
    def notes(self) -> list[str]:
        """What is to be said about the machines, and about the recordings as they were read."""
        return [*self.machine_notes, *notes_of(one.recording for one in self.recordings)]


def find_labelled(
    folder: Path, naming: Naming | None = None, on_error: OnError = "skip", columns: Sequence[str] = ()
) -> LabelledSet:
    """Return the labelled recordings under a folder.

    Paths name the machine and the label in the ways of :mod:`recordings.layout`; where they name no machine, the
    folder itself does. What belongs to a training set is left out, unless the list of labels names it.

    Args:
        folder: Searched recursively for recordings: audio, and tables of samples with a stated rate.
        naming: Whose they are and how they are labelled, in place of what their paths say.
        on_error: ``skip`` leaves out files without a clear label and files that can't be used, and names them; ``fail``
            raises.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.

    Raises:
        RecordingError: The folder is missing or holds no labelled audio, a file can't be used and ``on_error`` is
            ``fail``, or the list of labels is malformed.
        SettingsError: ``naming`` makes no sense.
    """
    names, problems = listed(folder, "labelled recordings")
    namer = Namer(folder, naming)
    labels = namer.labels or {}
    known = [namer.known(name) for name in names]
    in_train = sum(one.part == "train" for one in known)
    wanted = [one for one in known if one.part != "train" or one.name in labels]
    for one in wanted:
        if one.label is None or one.unplaced:
            without = _NO_LABEL if namer.labels is None else "no label in the list of labels"
            problems.append(Problem(one.name, one.unplaced or one.unclear or without))
    there = set(names)
    for row in labels.values():
        if row.name not in there:
            what = "no recording" if (folder / row.name).is_file() else "no such file"
            problems.append(Problem(row.name, f"{what}; line {row.line} of the list of labels names it"))
    if not wanted and not problems:
        raise RecordingError(_nothing(folder, in_train))
    usable = [one for one in wanted if one.label is not None and one.unplaced is None]
    home = namer.home() if any(one.machine is None for one in usable) else None
    looked_at = [_labelled(*both) for both in zip(usable, describe(folder, usable, home, columns), strict=True)]
    problems += [one for one in looked_at if isinstance(one, Problem)]
    machines = _by_machine(one for one in looked_at if isinstance(one, Labelled))
    return check(LabelledSet(folder, machines, tuple(problems), in_train, tuple(namer.notes())), on_error)


def check(found: LabelledSet, on_error: OnError) -> LabelledSet:
    """Return the set, if it can be evaluated.

    Raises:
        RecordingError: There is no recording, or there are problems and ``on_error`` is ``fail``.
    """
    if found.problems and (on_error == "fail" or not found.machines):
        what = "" if on_error == "fail" else "no usable recording with a label; "
        raise RecordingError(what + describe_problems_of(found.folder, found.problems))
    return found


def _labelled(known: Known, found: Recording | Problem) -> Labelled | Problem:
    if isinstance(found, Problem):
        return found
    assert known.label is not None
    if known.onset_s is not None and known.onset_s >= found.duration_s:
        return Problem(known.name, f"onset_s is {known.onset_s:g}, but it is {found.duration_s:.3g} s long")
    return Labelled(found, known.label, known.onset_s)


def _by_machine(found: Iterable[Labelled]) -> dict[str, tuple[Labelled, ...]]:
    machines: dict[str, list[Labelled]] = {}
    for one in found:
        assert one.recording.machine is not None
        machines.setdefault(one.recording.machine, []).append(one)
    return {
        machine: tuple(sorted(own, key=lambda one: (one.anomalous, sort_key(one.name))))
        for machine, own in sorted(machines.items(), key=lambda item: sort_key(item[0]))
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
    return f"{looked}, but for the {in_train} recordings in folders named 'train': name such a folder itself"
