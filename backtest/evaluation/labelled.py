"""The labelled set: which recordings of a folder are evaluated, whose they are, and what they are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recordings import SUFFIXES
from recordings.find import Problem, listed, sort_key
from recordings.naming import MetadataResolver, Naming
from schemas.errors import RecordingError
from trainer.recording_set import OnError, Recording, RecordingSet, dated, describe, spans_in
from whirr.counts import counted

_NO_LABEL: Final = "no label: neither its name nor a folder's says normal, anomaly or the like; say so in --labels"


def find_labelled(
    folder: Path, naming: Naming | None = None, on_error: OnError = "skip", columns: Sequence[str] = ()
) -> RecordingSet:
    """Return the labelled recordings under a folder: by machine, its normals in order, then its anomalies.

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
    namer = MetadataResolver(folder, naming)
    labels = namer.labels or {}
    known = dated(folder, [namer.known(name, namer.home) for name in names], columns)
    in_train = sum(one.split == "train" for one in known)
    wanted = [one for one in known if one.split != "train" or one.name in labels]
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
    looked_at = describe(folder, usable, home, columns)
    problems += [one for one in looked_at if isinstance(one, Problem)]
    recordings = sorted((one for one in looked_at if isinstance(one, Recording)), key=_order)
    notes = tuple(namer.notes())
    found = RecordingSet(
        folder,
        tuple(recordings),
        tuple(problems),
        machine_notes=notes,
        in_train=in_train,
        labelled_by=spans_in(usable),
    )
    return found.checked(on_error)


def _order(recording: Recording) -> tuple[str, bool, str]:
    assert recording.machine is not None
    return sort_key(recording.machine), recording.anomalous, sort_key(recording.name)


def _nothing(folder: Path, in_train: int) -> str:
    looked = f"no audio to evaluate in {str(folder)!r}; looked for {' '.join(SUFFIXES)}, in sub-folders too"
    if not in_train:
        return looked
    return f"{looked}, but for the {counted(in_train, 'recording')} in folders named 'train': name such a folder itself"
