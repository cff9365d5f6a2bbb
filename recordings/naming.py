"""Naming: what is known of each recording of a folder, from its path, a template of paths, and lists beside it.

One place decides whose a recording is, which sensor's, how it is labelled, which split of a data set it belongs to and
when it began, for every command.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import tzinfo
from pathlib import Path, PurePosixPath
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from recordings.layout import NOBODY, home_machine, label_of, path_info
from recordings.listing import Row, columns_of, read_list, read_recorded, read_spans
from recordings.machine_ids import machine_id
from recordings.name_times import NoTimestamp, before_time, time_in
from recordings.name_words import AmbiguousLabel, Label, Split, unlabelled
from recordings.pattern import Named, Pattern
from schemas.condition import UNKNOWN, Condition
from schemas.errors import RecordingError, SettingsError
from schemas.frame import check_stream
from schemas.times import MICROSECONDS
from whirr.counts import counted
from whirr.label_spans import LabelSpan

_SETTLE: Final = "rename it, or say so in --labels"
_SEPARATORS: Final = "_- ."
_COUNTED = re.compile(r"(.*?[_ .-])\d+")
_MOST_GROUPS: Final = 1000
_NAMED: Final = 3  # folders, or machines, that a note names


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How a folder's recordings are to be understood; what is left out is taken from their paths.

    Attributes:
        machine: Whose they all are.
        source: Which sensor they all are of.
        pattern: A template of relative paths without suffix: see :class:`recordings.pattern.Pattern`.
        labels: CSV file of labels in place of those in paths: see :mod:`recordings.listing`. One of label spans counts
            where they lie; elsewhere paths do.
        times: CSV file of times in place of those in names.
        recorded_times: Whether the times that `whirr record` left in the folder's ``recordings.csv`` count.
        zone: Time zone of times that state no offset.
    """

    machine: str | None = None
    source: str | None = None
    pattern: str | None = None
    labels: Path | None = None
    times: Path | None = None
    recorded_times: bool = True
    zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingMetadata:
    """What is known of a recording.

    Attributes:
        name: Path relative to the folder, with forward slashes.
        machine: Whose it is, or None where nothing says.
        source: Which sensor's, or None.
        label: What it is labelled, or None.
        unclear: Why its label can't be told, and what would tell it; or None.
        onset_s: Seconds into it at which a fault begins, or None.
        fault: Of an anomaly: what it is, or None.
        split: Which split of a data set it belongs to, or None.
        start: When it began, microseconds since the epoch, or why that can't be told.
        unplaced: Why it can't be used: its path doesn't match the template; or None.
        condition: How the machine ran, as far as a list or the path says it.
        spans: Those label spans that may hold it; :meth:`dated` says whether they do.
        span: The one that its label is of, or None.
    """

    name: str
    machine: str | None
    source: str | None
    label: Label | None
    unclear: str | None
    onset_s: float | None
    split: Split | None
    start: int | NoTimestamp
    unplaced: str | None
    condition: Condition = UNKNOWN
    fault: str | None = None
    spans: tuple[LabelSpan, ...] = ()
    span: LabelSpan | None = None

    @property
    def untold(self) -> str | None:
        """Why it can't be told whether it is of a confirmed fault, or None if it can."""
        if isinstance(self.start, NoTimestamp) and any(span.label == "anomaly" for span in self.spans):
            return f"no time ({self.start.reason}), so it may be of a fault that the labels' times tell of"
        return None

    def dated(self, duration_s: float, start_us: int | None = None) -> RecordingMetadata:
        """Return what is known once its length is, too: labelled by the label spans that hold it.

        An anomaly in any part of it counts before all else; where one ends within it, the rest is taken for its own.
        It is normal if a normal time holds all of it. Elsewhere its path's label stays.

        Args:
            duration_s: Its length.
            start_us: When it began, in place of ``start``.
        """
        start = self.start if start_us is None else start_us
        if not self.spans or isinstance(start, NoTimestamp):
            return self
        stop_us = start + max(1, round(duration_s * MICROSECONDS))
        faults = [span for span in self.spans if span.label == "anomaly" and span.overlaps(start, stop_us)]
        if faults:
            first = min(faults, key=lambda span: span.from_us)
            onset_s = (first.from_us - start) / MICROSECONDS
            onset = onset_s if onset_s > 0 else None
            return replace(self, label="anomaly", onset_s=onset, fault=first.fault, unclear=None, span=first)
        normal = next((span for span in self.spans if span.label == "normal" and span.holds(start, stop_us)), None)
        if normal is not None:
            return replace(self, label="normal", onset_s=None, fault=None, unclear=None, span=normal)
        return self


def zone_of(name: str) -> tzinfo:
    """Return a time zone.

    Raises:
        SettingsError: There is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(f"zone is {name!r}; expected a time zone such as Europe/Berlin") from None


class MetadataResolver:
    """Says what is known of a folder's recordings.

    Args:
        folder: Where the recordings were looked for.
        naming: How they are to be understood.

    Attributes:
        labels: The list of labels by name, or None.
        spans: The label spans; empty where there are none.
        timed_by: The list that times come from, or None where names tell them.

    Raises:
        SettingsError: The template, the zone, the machine or the source makes no sense.
        RecordingError: A list can't be read.
    """

    def __init__(self, folder: Path, naming: Naming | None = None) -> None:
        naming = naming or Naming()
        self._folder, self._naming = folder, naming
        check_stream(naming.machine, naming.source)
        self._zone = zone_of(naming.zone)
        self._pattern = Pattern(naming.pattern) if naming.pattern else None
        self.labels, self.spans = self._labels(naming.labels)
        # `whirr record` names folders by ids and by nothing else.
        self._recorded, recorded, self._frames = read_recorded(folder, self._zone)
        self.timed_by = naming.times or (recorded if naming.recorded_times else None)
        self._times = self._recorded if naming.times is None else read_list(naming.times, folder, "time", self._zone)
        self._written: dict[str, str] = {}  # by machine id: the folder's name that it stands for
        self._within: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._home: str | None = None
        self._nobodys = 0  # recordings without a machine
        self._first_nobodys: list[str] = []
        self._timed: Counter[str] = Counter()  # of those: what stands before the time in their names
        self._counted: Counter[str] = Counter()  # or before a counter

    def known(self, name: str, nobodys: Callable[[], str] | None = None) -> RecordingMetadata:
        """Return what is known of a recording.

        Args:
            name: Path relative to the folder, with forward slashes.
            nobodys: Gives the machine that recordings are taken for which nothing says it of, to choose their label
                spans by; without it they have those of every fault.

        Raises:
            RecordingError: A folder's name can't be a machine's, or two folders' names would be one machine's.
        """
        labelled = None if self.labels is None else self.labels.get(name)
        timed = self._times.get(name)
        rows = [row for row in (labelled, timed, self._recorded.get(name)) if row is not None]
        found = path_info(name, self._folder)
        if self._frames and name in self._recorded:
            found = replace(found, label=label_of(PurePosixPath(name).name), split=None, folders=())
        named, unplaced = self._by_pattern(name)
        label = found.label if self.labels is None else (labelled.label if labelled else None)
        unclear = f"its label is unclear: {label.reason}; {_SETTLE}" if isinstance(label, AmbiguousLabel) else None
        start: int | NoTimestamp
        if self.timed_by is not None:
            listed_us = timed.start_us if timed else None
            start = NoTimestamp(f"{self.timed_by} doesn't list it") if listed_us is None else listed_us
        elif named is not None and named.start is not None:
            start = named.start
        else:
            start = time_in(PurePosixPath(name).stem, self._zone)
        machine = self._machine(rows, named, found.named, found.folders)
        source = self._naming.source or next((one.source for one in (*rows, named) if one and one.source), None)
        if machine is None and unplaced is None:
            self._nobody(name)
        return RecordingMetadata(
            name=name,
            machine=machine,
            source=source,
            label=None if isinstance(label, AmbiguousLabel) else label,
            unclear=unclear,
            onset_s=labelled.onset_s if labelled else None,
            fault=labelled.fault if labelled else None,
            split=found.split,
            start=start,
            unplaced=unplaced,
            condition=_condition([one.condition for one in (*rows, named) if one]),
            spans=self._spans(nobodys() if machine is None and nobodys and self.spans else machine, source),
        )

    def _labels(self, file: Path | None) -> tuple[dict[str, Row] | None, list[LabelSpan]]:
        if file is None:
            return None, []
        if {"machine", "label", "from"} <= (columns := columns_of(file)) and "path" not in columns:
            return None, read_spans(file, self._zone)
        return read_list(file, self._folder, "label", self._zone), []

    def _spans(self, machine: str | None, source: str | None) -> tuple[LabelSpan, ...]:
        """Return the label spans of a stream; of what nobody knows whose it is, every fault: it may be that."""
        own = (machine, source)
        return tuple(
            span
            for span in self.spans
            if all(
                named is None or named == known or (known is None and span.label == "anomaly")
                for named, known in zip((span.machine, span.source), own, strict=True)
            )
        )

    def home(self) -> str:
        """Return whose the recordings are that nothing else says it of: as the folder itself is named.

        Raises:
            RecordingError: The folder's name can't be a machine's.
        """
        if self._home is None:
            self._home = home_machine(self._folder) or NOBODY
        return self._home

    def mixed(self) -> str | None:
        """Return what looks like several machines or sensors among recordings that have no machine, in a sentence.

        It is told by what stands before the time in their names, where that is not the same in all.
        """
        return self._several(self._timed, "{machine}_{time}")

    def _nobody(self, name: str) -> None:
        """Take a recording without a machine down; what is kept is bounded, whatever is in the folder."""
        self._nobodys += 1
        if self._nobodys <= _NAMED:
            self._first_nobodys.append(name)
        stem = unlabelled(PurePosixPath(name).stem)
        before, groups = before_time(stem, self._zone), self._timed
        if before is None and (counted := _COUNTED.fullmatch(stem)):
            before, groups = counted[1], self._counted
        group = (before or "").strip(_SEPARATORS)
        if group and (group in groups or len(groups) < _MOST_GROUPS):
            groups[group] += 1

    def _several(self, groups: Counter[str], form: str) -> str | None:
        many = [group for group, count in groups.items() if count > 1]
        if self._pattern is not None or len(many) < 2:
            return None
        shown = ", ".join(repr(group) for group in many[:_NAMED]) + (", …" if len(many) > _NAMED else "")
        return (
            f"the names of recordings without a machine begin in {len(many)} ways ({shown}); if these are machines of "
            f"their own, say so with --pattern, such as '{form}', else say whose they all are with --machine"
        )

    def notes(self) -> list[str]:
        """Return what a person should know of the machines that were found, in sentences."""
        notes = [f"machine {own} is the folder {text!r}" for own, text in self._written.items() if own != text]
        if len(notes) > _NAMED:
            others = counted(len(notes) - _NAMED, "machine more is", "machines more are")
            notes = [*notes[:_NAMED], f"and {others} named for folders like that"]
        for machine, within in self._within.items():
            if len(within) > 1:
                shown = ", ".join(sorted("/".join(one) for one in within)[:_NAMED])
                more = ", …" if len(within) > _NAMED else ""
                notes.append(
                    f"machine {machine} has recordings in {len(within)} folders ({shown}{more}): machines, or faults? "
                    "If these are machines of their own, say so with --pattern, such as '*/{machine}/*'; if some hold "
                    "faults, with --labels"
                )
        if self._nobodys and self._within:
            shown = ", ".join(self._first_nobodys) + (", …" if self._nobodys > _NAMED else "")
            notes.append(
                f"{counted(self._nobodys, 'recording has', 'recordings have')} no machine, others have one: {shown}"
            )
        if strangers := sorted({span.machine for span in self.spans} - self._within.keys() - {self._home}):
            shown = ", ".join(strangers[:_NAMED]) + (", …" if len(strangers) > _NAMED else "")
            notes.append(f"the labels name machines of which no recording is here: {shown}")
        notes += [one for one in [self.mixed() or self._several(self._counted, "{machine}_*")] if one]
        alike = defaultdict(list)
        for machine in self._within:
            alike[machine.casefold()].append(machine)
        notes += [f"{' and '.join(own)} are taken as different machines" for own in alike.values() if len(own) > 1]
        return notes

    def _by_pattern(self, name: str) -> tuple[Named | None, str | None]:
        if self._pattern is None:
            return None, None
        named = self._pattern.read(PurePosixPath(name).with_suffix("").as_posix(), self._zone)
        return named, None if named else f"its path does not match the pattern {self._pattern.template!r}"

    def _machine(
        self, rows: list[Row], named: Named | None, written: str | None, folders: tuple[str, ...]
    ) -> str | None:
        machine = self._naming.machine or next((row.machine for row in rows if row.machine), None)
        if machine is not None:
            return machine
        if named is not None and named.machine is not None:
            written = named.machine
        elif written is None:
            return None
        machine = machine_id(written)
        before = self._written.setdefault(machine, written)
        if before != written:
            raise RecordingError(
                f"{before!r} and {written!r} would both be machine {machine!r}; rename one of them, or say whose each "
                "recording is with a column 'machine' in --labels"
            )
        self._within.setdefault(machine, set())
        inner = tuple(text for text in folders if text != written and re.search(r"[^\W\d_]", text))
        if inner and (named is None or named.machine is None):
            self._within[machine].add(inner)
        return machine


def _condition(stated: list[Condition]) -> Condition:
    """Return the first that is stated of each."""
    together = zip(UNKNOWN, *stated, strict=True)
    return Condition(*(next((number for number in of if number is not None), None) for of in together))
