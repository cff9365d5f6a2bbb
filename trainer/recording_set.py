"""Recordings: which files of a folder train a model, whose they are, and which are held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from recordings import SUFFIXES, Notes, RecordingInfo, recording_info
from recordings.cut import frame_samples
from recordings.find import Problem, listed
from recordings.layout import normals_level
from recordings.name_times import NoTimestamp
from recordings.name_words import Label, folder_name
from recordings.naming import MetadataResolver, Naming, RecordingMetadata
from schemas.condition import UNKNOWN, Condition
from schemas.errors import RecordingError
from schemas.frame import MIN_FRAME_S
from whirr.counts import counted
from whirr.label_spans import LabelSpan

NOT_LOOKED = NoTimestamp("nobody looked")
STRAY_SHARE = 0.25  # a recording shorter than this share of the median one doesn't set the window's length

OnError = Literal["skip", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One audio file, as its header describes it.

    Attributes:
        path: Where it is.
        name: Path relative to the folder, with forward slashes.
        machine: Whose it is, or None where the folder doesn't say.
        rate_hz, channels, samples: Samples are per channel.
        start: When it began, microseconds since the epoch, or why that isn't known.
        columns: Of a table: the columns to take as channels; empty: those that look like a signal.
        info: All that is known of the file, or None.
        label: What it is labelled, or None.
        onset_s: Where in it a fault begins, seconds, if that is known.
        condition: How the machine ran, as far as that is known.
        fault: Of an anomaly: what it was, as far as that is known.
    """

    path: Path
    name: str
    machine: str | None
    rate_hz: int
    channels: int
    samples: int
    start: int | NoTimestamp = NOT_LOOKED
    columns: tuple[str, ...] = ()
    info: RecordingInfo | None = None
    label: Label | None = None
    onset_s: float | None = None
    condition: Condition = UNKNOWN
    fault: str | None = None

    @property
    def anomalous(self) -> bool:
        """Whether it is labelled as an anomaly."""
        return self.label == "anomaly"

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate_hz


@dataclass(frozen=True, slots=True)
class RecordingSet:
    """What a folder holds, in the one order of recordings: see :func:`recordings.find.sort_key`.

    Of labelled ones, each machine's normals come before its anomalies.

    Attributes:
        folder: Where they are.
        recordings: Those that can be used.
        problems: Files that can't be used, and why.
        left_out: How many can't be trained on and why, where only normal recordings are wanted.
        machine_notes: What a person should know of the machines.
        in_train: How many were left out because they belong to a training set, where labelled ones are wanted.
        faults: The label spans of anomalies, whatever is known of recordings then.
        labelled_by: The label spans that recordings were labelled by, those that were left out for it among them.
    """

    folder: Path
    recordings: tuple[Recording, ...]
    problems: tuple[Problem, ...]
    left_out: tuple[tuple[str, int], ...] = ()
    machine_notes: tuple[str, ...] = ()
    in_train: int = 0
    faults: tuple[LabelSpan, ...] = ()
    labelled_by: tuple[LabelSpan, ...] = ()

    @property
    def rates_hz(self) -> Counter[int]:
        """Recordings per sample rate."""
        return Counter(recording.rate_hz for recording in self.recordings)

    @property
    def machines(self) -> dict[str | None, int]:
        """Recordings per machine."""
        return dict(Counter(recording.machine for recording in self.recordings))

    @property
    def by_machine(self) -> dict[str, tuple[Recording, ...]]:
        """Recordings by machine, those that have one."""
        found: dict[str, list[Recording]] = {}
        for recording in self.recordings:
            if recording.machine is not None:
                found.setdefault(recording.machine, []).append(recording)
        return {machine: tuple(own) for machine, own in found.items()}

    @property
    def duration_s(self) -> float:
        """Length of all recordings in seconds."""
        return sum(recording.duration_s for recording in self.recordings)

    @property
    def notes(self) -> list[str]:
        """What is to be said about the machines, and about the recordings as they were read, a line for each thing."""
        read = ((recording.name, recording.info) for recording in self.recordings if recording.info is not None)
        return [*self.machine_notes, *Notes.of(read).lines()]

    @property
    def shortest_s(self) -> float:
        """Length of the shortest recording in seconds, strays aside."""
        lengths = sorted(recording.duration_s for recording in self.recordings)
        least = STRAY_SHARE * lengths[len(lengths) // 2]
        return next(length for length in lengths if length >= least)

    def without(self, problems: Sequence[Problem], on_error: OnError) -> RecordingSet:
        """Return what is left when more files turn out to be unusable.

        Raises:
            RecordingError: Nothing is left, or ``on_error`` is ``fail``.
        """
        names = {problem.name for problem in problems}
        left = tuple(recording for recording in self.recordings if recording.name not in names)
        known = (*self.problems, *{problem.name: problem for problem in problems}.values())
        return replace(self, recordings=left, problems=known).checked(on_error)

    def checked(self, on_error: OnError) -> RecordingSet:
        """Return this, if it can be used.

        Raises:
            RecordingError: There is no recording, or there are problems and ``on_error`` is ``fail``.
        """
        if self.problems and on_error == "fail":
            raise RecordingError(describe_problems(self.folder, self.problems))
        if not self.recordings:
            raise RecordingError(f"no usable recording; {describe_problems(self.folder, self.problems)}")
        return self


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a recording: samples ``start`` to ``stop`` at the recording's own rate."""

    recording: Recording
    start: int
    stop: int


def find_recordings(
    folder: Path,
    naming: Naming | None = None,
    on_error: OnError = "skip",
    *,
    normal_only: bool = True,
    columns: Sequence[str] = (),
) -> RecordingSet:
    """Return the recordings under a folder.

    ``DIR/<machine>/train/*`` and ``DIR/<machine>/*`` name the machine; ``DIR/train/*`` and ``DIR/*`` don't. The
    layouts of public data sets are understood too: see :mod:`recordings.layout`.

    Args:
        folder: Searched recursively for recordings: audio, and tables of samples with a stated rate.
        naming: Whose they are, how they are labelled and when they began, in place of what their paths say.
        on_error: ``skip`` leaves files out that can't be used and names them; ``fail`` raises.
        normal_only: Leave out what belongs to a test set and what is labelled as an anomaly. A recording that only its
            own name labels so, among normal ones, is named as one that can't be used.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.

    Raises:
        RecordingError: The folder is missing or holds no usable audio, a file can't be used and ``on_error`` is
            ``fail``, or where only normal ones are wanted a recording's label is unclear, some are labelled normal and
            others beside them are not labelled, or the names of those without a machine tell of several.
        SettingsError: ``naming`` makes no sense.
    """
    names, problems = listed(folder, "normal recordings" if normal_only else "recordings")
    namer = MetadataResolver(folder, naming)
    known = dated(folder, [namer.known(name) for name in names], columns)
    labelled_by = spans_in(known)
    left_out: Counter[str] = Counter()
    if normal_only:
        known = _normal(_undisputed(known, left_out, problems), namer, left_out, problems)
        if any(one.machine is None for one in known) and (mixed := namer.mixed()):
            raise RecordingError(f"{str(folder)!r}: {mixed}")
    looked_at = describe(folder, known, None, columns)
    problems += [one for one in looked_at if isinstance(one, Problem)]
    recordings = tuple(one for one in looked_at if isinstance(one, Recording))
    if not (recordings or problems):
        why = f" but {_counted(left_out)}, which are left out" if left_out else ""
        looked = f"no audio in {str(folder)!r}{why}; looked for {' '.join(SUFFIXES)}, in sub-folders too"
        raise RecordingError(looked)
    faults = tuple(span for span in namer.spans if span.label == "anomaly")
    found = RecordingSet(
        folder,
        recordings,
        tuple(problems),
        tuple(left_out.items()),
        tuple(namer.notes()),
        faults=faults,
        labelled_by=labelled_by,
    )
    return found.checked(on_error)


def _undisputed(
    known: Sequence[RecordingMetadata], left_out: Counter[str], problems: list[Problem]
) -> list[RecordingMetadata]:
    """Return the recordings that are not of a confirmed fault, nor may be of one for all that is known."""
    kept = []
    for one in known:
        if one.span is not None and one.label == "anomaly":
            left_out["of a confirmed fault"] += 1
        elif one.untold:
            problems.append(Problem(one.name, one.untold))
        else:
            kept.append(one)
    return kept


def _normal(
    known: Sequence[RecordingMetadata], namer: MetadataResolver, left_out: Counter[str], problems: list[Problem]
) -> list[RecordingMetadata]:
    """Return the recordings that may train; count those that are left out, and add to what can't be used.

    Raises:
        RecordingError: A recording's label is unclear.
    """
    kept, unclear = [], []
    for one in known:
        listed = namer.labels is not None
        if one.split == "test":
            left_out["of a test set"] += 1
        elif one.unclear:
            unclear.append(f"{one.name}: {one.unclear}")
        elif one.label == "anomaly" and (listed or any(folder_name(f).label for f in one.name.split("/")[:-1])):
            left_out["labelled anomaly"] += 1
        elif one.label == "anomaly":
            problems.append(Problem(one.name, "named as anomalous; only normal recordings train"))
        elif listed and one.label is None:
            problems.append(Problem(one.name, "no label in the list of labels"))
        else:
            kept.append(one)
    if unclear:
        more = f"; and {len(unclear) - 3} more" if len(unclear) > 3 else ""
        raise RecordingError(
            f"{counted(len(unclear), 'recording')} may be normal or not: {'; '.join(unclear[:3])}{more}"
        )
    if namer.labels is None:
        _all_labelled_or_none(kept)
    return kept


def _all_labelled_or_none(kept: Sequence[RecordingMetadata]) -> None:
    """Refuse recordings without a label beside normal ones: what isn't called normal there may be a fault.

    Raises:
        RecordingError: There are some.
    """
    levels = {normals_level(one.name): one.name for one in reversed(kept) if one.label == "normal" and one.span is None}
    bare: list[str] = []
    beside = ""
    for one in kept:
        folders = tuple(one.name.split("/")[:-1])
        level = next((folders[:end] for end in range(len(folders) + 1) if folders[:end] in levels), None)
        if one.label is None and one.unplaced is None and level is not None:
            bare.append(one.name)
            beside = beside or levels[level]
    if bare:
        by_folder = list({PurePosixPath(name).parent: name for name in reversed(bare)}.values())[::-1]
        by_folder += [name for name in bare if name not in by_folder][:3]
        shown = "; ".join(by_folder[:3]) + (f"; and {len(bare) - 3} more" if len(bare) > 3 else "")
        raise RecordingError(
            f"{counted(len(bare), 'recording')} may be normal or not: {shown} without a label beside those that are "
            f"called normal, such as {beside}; label all of them with --labels, or name the folder of the normal ones "
            "alone"
        )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def unusable(problems: Sequence[Problem]) -> int:
    """Return how many files can't be used."""
    return sum(problem.count for problem in problems)


def describe_problems(folder: Path, problems: Sequence[Problem], most: int = 5) -> str:
    """Return one line that counts and names files that can't be used."""
    shown = "; ".join(f"{problem.name}: {problem.reason}" for problem in problems[:most])
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return f"{unusable(problems)} of the files in {str(folder)!r} can't be used: {shown}{more}"


def split(
    recordings: Iterable[Recording], frame_s: float, held_out_share: float = 0.2
) -> tuple[list[Segment], list[Segment]]:
    """Return what trains and what is held out: per machine, the last recordings in time order.

    A machine's only recording is cut in two at a frame's border, if it is long enough; else it trains.

    Args:
        recordings: In time order by machine.
        frame_s: Length of a frame in seconds.
        held_out_share: Of each machine's recordings, at least one.
    """
    by_machine: dict[str | None, list[Recording]] = {}
    for recording in recordings:
        by_machine.setdefault(recording.machine, []).append(recording)
    train: list[Segment] = []
    held_out: list[Segment] = []
    for own in by_machine.values():
        if len(own) == 1:
            first, last = _cut(own[0], frame_s, held_out_share)
            train += first
            held_out += last
        else:
            border = len(own) - max(1, round(len(own) * held_out_share))
            train += [Segment(recording, 0, recording.samples) for recording in own[:border]]
            held_out += [Segment(recording, 0, recording.samples) for recording in own[border:]]
    return train, held_out


def data_hash(recordings: Sequence[Recording]) -> str:
    """Return the SHA-256, in hex, over names (sorted) and contents of the recordings."""
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda recording: hashlib.sha256(recording.path.read_bytes()).hexdigest(), recordings))
    lines = sorted(f"{recording.name}\0{digest}\n" for recording, digest in zip(recordings, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def dated(folder: Path, known: Sequence[RecordingMetadata], columns: Sequence[str] = ()) -> list[RecordingMetadata]:
    """Return recordings labelled by the label spans that hold them; those that can't be read stay as they are."""

    def look(one: RecordingMetadata) -> RecordingMetadata:
        if not one.spans:
            return one
        try:
            info = recording_info(folder / one.name, columns)
        except RecordingError:
            return one
        return one.dated(info.samples / info.rate_hz)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(look, known))


def spans_in(known: Iterable[RecordingMetadata]) -> tuple[LabelSpan, ...]:
    """Return the label spans that recordings are labelled by, each once."""
    return tuple(dict.fromkeys(one.span for one in known if one.span is not None))


def describe(
    folder: Path, known: Sequence[RecordingMetadata], machine: str | None = None, columns: Sequence[str] = ()
) -> list[Recording | Problem]:
    """Return each recording of a folder as its header describes it, or why it can't be used.

    Args:
        folder: Where they are.
        known: What is known of each.
        machine: Whose they are where nothing says.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda one: _described(folder, one, machine, columns), known))


def _described(
    folder: Path, known: RecordingMetadata, machine: str | None, columns: Sequence[str]
) -> Recording | Problem:
    name = known.name
    path = folder / name
    if known.unplaced is not None:
        return Problem(name, known.unplaced)
    try:
        info = recording_info(path, columns)
    except RecordingError as error:
        return Problem(name, str(error).removeprefix(f"{path}: "))
    duration_s = info.samples / info.rate_hz
    if duration_s < MIN_FRAME_S:
        return Problem(name, f"{duration_s:.3g} s long; expected at least {MIN_FRAME_S} s")
    if known.onset_s is not None and known.onset_s >= duration_s:
        return Problem(name, f"onset_s is {known.onset_s:g}, but it is {duration_s:.3g} s long")
    return Recording(
        path=path,
        name=name,
        machine=known.machine or machine,
        rate_hz=info.rate_hz,
        channels=info.channels,
        samples=info.samples,
        columns=tuple(columns),
        info=info,
        start=known.start,
        label=known.label,
        onset_s=known.onset_s,
        condition=known.condition,
        fault=known.fault,
    )


def _cut(recording: Recording, frame_s: float, held_out_share: float) -> tuple[list[Segment], list[Segment]]:
    whole = Segment(recording, 0, recording.samples)
    frame = frame_samples(frame_s, recording.rate_hz)
    frames = recording.samples // frame
    kept = frames - max(1, round(frames * held_out_share))
    if kept < 1:
        return [whole], []
    border = kept * frame
    return [Segment(recording, 0, border)], [Segment(recording, border, recording.samples)]
