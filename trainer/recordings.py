"""Recordings: which files of a folder train a model, whose they are, and which are held out."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.frame import MACHINE_ID, MIN_FRAME_S
from whirr import layouts
from whirr.errors import RecordingError
from whirr.recordings import SUFFIXES, Notes, RecordingInfo, is_recording, recording_info

ANOMALOUS_NAME = re.compile(r"^(anomal|abnormal)", re.IGNORECASE)
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
        columns: Of a table: the columns to take as channels; empty: those that look like a signal.
        info: All that is known of the file, or None.
    """

    path: Path
    name: str
    machine: str | None
    rate_hz: int
    channels: int
    samples: int
    columns: tuple[str, ...] = ()
    info: RecordingInfo | None = None

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate_hz


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds, in time order (names sorted with numbers as numbers) by machine."""

    folder: Path
    recordings: tuple[Recording, ...]
    problems: tuple[Problem, ...]

    @property
    def rates_hz(self) -> Counter[int]:
        """Recordings per sample rate."""
        return Counter(recording.rate_hz for recording in self.recordings)

    @property
    def machines(self) -> dict[str | None, int]:
        """Recordings per machine."""
        return dict(Counter(recording.machine for recording in self.recordings))

    @property
    def duration_s(self) -> float:
        """Length of all recordings in seconds."""
        return sum(recording.duration_s for recording in self.recordings)

    @property
    def notes(self) -> list[str]:
        """What is to be said about the recordings as they were read."""
        return notes_of(self.recordings)

    @property
    def shortest_s(self) -> float:
        """Length of the shortest recording in seconds, strays aside."""
        lengths = sorted(recording.duration_s for recording in self.recordings)
        least = STRAY_SHARE * lengths[len(lengths) // 2]
        return next(length for length in lengths if length >= least)

    def without(self, problems: Sequence[Problem], on_error: OnError) -> Found:
        """Return what is left when more files turn out to be unusable.

        Raises:
            RecordingError: Nothing is left, or ``on_error`` is ``fail``.
        """
        names = {problem.name for problem in problems}
        left = tuple(recording for recording in self.recordings if recording.name not in names)
        known = (*self.problems, *{problem.name: problem for problem in problems}.values())
        return Found(self.folder, left, known).checked(on_error)

    def checked(self, on_error: OnError) -> Found:
        """Return this, if it can be trained on.

        Raises:
            RecordingError: There is no recording, or there are problems and ``on_error`` is ``fail``.
        """
        if self.problems and on_error == "fail":
            raise RecordingError(describe_problems(self.folder, self.problems))
        if not self.recordings:
            raise RecordingError(f"no usable audio; {describe_problems(self.folder, self.problems)}")
        return self


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a recording: samples ``start`` to ``stop`` at the recording's own rate."""

    recording: Recording
    start: int
    stop: int


def find_recordings(
    folder: Path,
    machine: str | None = None,
    on_error: OnError = "skip",
    *,
    normal_only: bool = True,
    columns: Sequence[str] = (),
) -> Found:
    """Return the recordings under a folder.

    ``DIR/<machine>/train/*`` and ``DIR/<machine>/*`` name the machine; ``DIR/train/*`` and ``DIR/*`` don't. The
    layouts of public data sets are understood too: see :mod:`whirr.layouts`.

    Args:
        folder: Searched recursively for recordings: audio, and tables of samples with a stated rate.
        machine: Whose recordings these are, in place of what the folders say.
        on_error: ``skip`` leaves files out that can't be used and names them; ``fail`` raises.
        normal_only: Leave out what belongs to a test set, what lies in a folder named as anomalous, and files named so.
        columns: Of tables: the columns to take as channels; empty: those that look like a signal.

    Raises:
        RecordingError: The folder is missing or holds no usable audio, or a file can't be used and ``on_error`` is
            ``fail``, or ``machine`` is no machine id.
    """
    if not folder.is_dir():
        raise RecordingError(f"{str(folder)!r} is no folder; expected one with normal recordings")
    if machine is not None and not MACHINE_ID.fullmatch(machine):
        raise RecordingError(f"machine {machine!r} is no machine id; expected {MACHINE_ID.pattern}")
    names = [path.relative_to(folder).as_posix() for path in audio_files(folder, "test" if normal_only else None)]
    if normal_only:
        names = [name for name in names if not _lies_among_anomalies(name)]
    if not names:
        raise RecordingError(f"no audio in {str(folder)!r}; looked for {' '.join(SUFFIXES)}, in sub-folders too")
    with ThreadPoolExecutor() as pool:
        looked_at = list(
            pool.map(lambda name: _look_at(folder, name, machine, normal_only, columns), sorted(names, key=natural_key))
        )
    problems = tuple(one for one in looked_at if isinstance(one, Problem))
    recordings = tuple(one for one in looked_at if isinstance(one, Recording))
    return Found(folder, recordings, problems).checked(on_error)


def describe_problems(folder: Path, problems: Sequence[Problem], most: int = 5) -> str:
    """Return one line that counts and names files that can't be used."""
    shown = "; ".join(f"{problem.name}: {problem.reason}" for problem in problems[:most])
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return f"{len(problems)} of the files in {str(folder)!r} can't be used: {shown}{more}"


def notes_of(recordings: Iterable[Recording]) -> list[str]:
    """Return what is to be said about recordings as they were read, a line for each kind of thing."""
    return Notes.of((recording.name, recording.info) for recording in recordings if recording.info is not None).lines()


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key under which numbers in names count as numbers: ``clip9`` before ``clip10``."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def split(
    recordings: Iterable[Recording], frame_s: float, held_out_share: float = 0.2
) -> tuple[list[Part], list[Part]]:
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
    train: list[Part] = []
    held_out: list[Part] = []
    for own in by_machine.values():
        if len(own) == 1:
            first, last = _cut(own[0], frame_s, held_out_share)
            train += first
            held_out += last
        else:
            border = len(own) - max(1, round(len(own) * held_out_share))
            train += [Part(recording, 0, recording.samples) for recording in own[:border]]
            held_out += [Part(recording, 0, recording.samples) for recording in own[border:]]
    return train, held_out


def data_hash(recordings: Sequence[Recording]) -> str:
    """Return the SHA-256, in hex, over names (sorted) and contents of the recordings."""
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda recording: hashlib.sha256(recording.path.read_bytes()).hexdigest(), recordings))
    lines = sorted(f"{recording.name}\0{digest}\n" for recording, digest in zip(recordings, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def audio_files(folder: Path, left_out: layouts.Part | None) -> list[Path]:
    """Return the recordings under a folder, except hidden ones and what belongs to the part ``left_out``."""
    found = []
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        parts = (*inside.parts[:-1], layouts.place(inside.as_posix(), folder).part)
        left = hidden or (left_out is not None and left_out in parts)
        if not left and path.is_file() and is_recording(path):
            found.append(path)
    return found


def _lies_among_anomalies(name: str) -> bool:
    folders = name.split("/")[:-1]
    return any(layouts.LABEL_FOLDER.fullmatch(part) and layouts.label_of(part) == "anomaly" for part in folders)


def _look_at(
    folder: Path, name: str, machine: str | None, normal_only: bool, columns: Sequence[str]
) -> Recording | Problem:
    if normal_only and ANOMALOUS_NAME.match((folder / name).name):
        return Problem(name, "named as anomalous")
    return describe(folder, name, machine or layouts.place(name, folder).machine, columns)


def describe(folder: Path, name: str, machine: str | None, columns: Sequence[str] = ()) -> Recording | Problem:
    """Return the recording ``name`` of a folder as its header describes it, or why it can't be used."""
    path = folder / name
    try:
        info = recording_info(path, columns)
    except RecordingError as error:
        return Problem(name, str(error).removeprefix(f"{path}: "))
    if info.samples < MIN_FRAME_S * info.rate_hz:
        return Problem(name, f"{info.samples / info.rate_hz:.3g} s long; expected at least {MIN_FRAME_S} s")
    return Recording(
        path=path,
        name=name,
        machine=machine,
        rate_hz=info.rate_hz,
        channels=info.channels,
        samples=info.samples,
        columns=tuple(columns),
        info=info,
    )


def _cut(recording: Recording, frame_s: float, held_out_share: float) -> tuple[list[Part], list[Part]]:
    whole = Part(recording, 0, recording.samples)
    frame = frame_s * recording.rate_hz
    frames = int(recording.samples / frame + 1e-9)
    kept = frames - max(1, round(frames * held_out_share))
    if kept < 1:
        return [whole], []
    border = round(kept * frame)
    return [Part(recording, 0, border)], [Part(recording, border, recording.samples)]
