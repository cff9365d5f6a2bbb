"""What an operator notices of scores and a rule: faults found, false alerts, delays. The one definition of all of them.

A **fault** is a run of frames labelled anomalous in one stream. It begins where its first frame does, or where in that
the labels say. It is **found** if an incident of the machine opens at one of its frames; one that was open before was
opened by something else. The **delay** is from the fault's onset to the end of the frame that opened the first incident
in it. A **false alert** is an incident that opens at a frame labelled normal; one that opens at a frame without a label
is neither. False alerts **a day** are those within the time that the machine was watched while it was labelled normal.
Late frames count nowhere: they move nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest.streams import ANOMALY, LATE, NORMAL, UNKNOWN, IncidentSpan, Ints, ScoredStream
from schemas.times import MICROSECONDS
from whirr.rates import per_day, per_day_interval

_HEALTHY, _NEITHER = -1, -2
# A frame stands for the time until the next one, but no longer than this: a night without recordings is no watch.
MOST_WATCHED_S: Final = 60.0
MOST_WATCHED_FRAMES: Final = 10.0
ENOUGH_S: Final = 86_400.0  # of normal signal, to say how many false alerts there are a day


class Fault(NamedTuple):
    """A fault: whose, when it began (microseconds since the epoch), and its first frame."""

    machine: str
    onset_us: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFigures:
    """What a rule amounts to on some streams.

    Attributes:
        delays_s: Of each fault, in order: seconds from its onset until it was found; None for one that was missed.
        already_open: Faults at whose beginning an incident was open.
        false_alerts: Incidents that opened at frames labelled normal.
        unlabelled_alerts: Incidents that opened at frames without a label.
        normal_s: Seconds for which machines were watched while they were labelled normal.
        normal_frames, anomalous_frames: Frames by label.
        normal_open, anomalous_open: Those of them at whose end an incident was open: one false alert may last.
    """

    delays_s: tuple[float | None, ...] = ()
    already_open: int = 0
    false_alerts: int = 0
    unlabelled_alerts: int = 0
    normal_s: float = 0.0
    normal_frames: int = 0
    anomalous_frames: int = 0
    normal_open: int = 0
    anomalous_open: int = 0

    @property
    def faults(self) -> int:
        """How many faults there are."""
        return len(self.delays_s)

    @property
    def found_after_s(self) -> list[float]:
        """The delays of the faults that were found."""
        return [delay_s for delay_s in self.delays_s if delay_s is not None]

    @property
    def found(self) -> int:
        """How many faults were found."""
        return len(self.found_after_s)

    @property
    def recall(self) -> float | None:
        """Share of the faults that were found; None without any."""
        return self.found / self.faults if self.faults else None

    @property
    def delay_s_median(self) -> float | None:
        """Median delay of the faults that were found; None without any."""
        return float(np.median(self.found_after_s)) if self.found else None

    @property
    def delay_s_max(self) -> float | None:
        """Longest delay of the faults that were found; None without any."""
        return max(self.found_after_s, default=None)

    @property
    def false_alerts_a_day(self) -> float | None:
        """False alerts a machine and day; None without any normal time."""
        return per_day(self.false_alerts, self.normal_s)

    @property
    def false_alerts_a_day_interval(self) -> tuple[float, float] | None:
        """What that may as well be, at the level of 95 %."""
        return per_day_interval(self.false_alerts, self.normal_s)

    @property
    def enough(self) -> bool:
        """Whether a day or more was watched: from less, how many false alerts there are a day can't be told."""
        return self.normal_s >= ENOUGH_S

    @property
    def normal_open_share(self) -> float | None:
        """Share of the normal frames at whose end an incident was open; None without any."""
        return self.normal_open / self.normal_frames if self.normal_frames else None

    @property
    def anomalous_open_share(self) -> float | None:
        """Share of the anomalous frames at whose end an incident was open; None without any."""
        return self.anomalous_open / self.anomalous_frames if self.anomalous_frames else None


def total(figures: Iterable[AlertFigures]) -> AlertFigures:
    """Return the sums over machines."""
    listed = list(figures)
    sums = {
        name: sum(getattr(one, name) for one in listed)
        for name in AlertFigures.__dataclass_fields__
        if name != "delays_s"
    }
    return AlertFigures(delays_s=tuple(delay for one in listed for delay in one.delays_s), **sums)


def as_normal(streams: Sequence[ScoredStream]) -> tuple[list[ScoredStream], bool]:
    """Return streams of which some frame is labelled as they are; others with every frame taken for normal.

    The second value is whether anything was labelled.
    """
    if any((stream.label != UNKNOWN).any() for stream in streams):
        return list(streams), True
    return [replace(stream, label=np.full(len(stream), NORMAL, np.int8)) for stream in streams], False


@dataclass(frozen=True, slots=True, eq=False)
class LabelledWatch:
    """Streams laid end to end, with what their labels say: any rule's incidents in them are judged by it.

    Attributes:
        starts: Where each stream begins, and where the last one ends; int64 [streams + 1].
        faults: In order of streams and time.
        normal_s: For how long machines were watched while they were labelled normal.
    """

    starts: Ints
    faults: tuple[Fault, ...]
    normal_s: float
    _fault: Ints  # which fault each frame belongs to, or _HEALTHY or _NEITHER; int64 [n]
    _end_us: Ints  # int64 [n]
    _normal_before: Ints  # how many normal frames come before each; int64 [n + 1]
    _anomalous_before: Ints  # int64 [n + 1]

    @classmethod
    def of(cls, streams: Sequence[ScoredStream], every_s: float = 0.0) -> LabelledWatch:
        """Return the watch over streams.

        Args:
            streams: Of any machines.
            every_s: How far apart recordings are known to be: so long a frame may stand for the time to the next one.
        """
        starts = np.cumsum([0, *map(len, streams)])
        fault = np.full(starts[-1], _NEITHER, np.int64)
        faults: list[Fault] = []
        watched_s: dict[str, float] = {}
        for start, stream in zip(starts.tolist(), streams, strict=False):
            for first, last in runs((stream.label == ANOMALY)[kept := np.flatnonzero(stream.status != LATE)]):
                fault[start + kept[first : last + 1]] = len(faults)
                faults.append(Fault(stream.machine, int(stream.onset_us[kept[first]]), start + int(kept[first])))
            fault[start + kept[stream.label[kept] == NORMAL]] = _HEALTHY
            # Several sensors watch a machine at the same time.
            watched_s[stream.machine] = max(watched_s.get(stream.machine, 0.0), watched(stream, every_s))
        end_us = np.concatenate([np.empty(0, np.int64), *(stream.end_us for stream in streams)])
        before = [np.concatenate([[0], np.cumsum(chosen)]) for chosen in (fault == _HEALTHY, fault >= 0)]
        return cls(starts, tuple(faults), sum(watched_s.values()), fault, end_us, *before)

    def figures(self, spans: Sequence[IncidentSpan] | Ints) -> AlertFigures:
        """Return what incidents amount to.

        Args:
            spans: In order, or int64 [incident, 2]; frames are counted over all streams, laid end to end.
        """
        opened, until = np.array(spans, np.int64).reshape(-1, 2).T
        of_fault = self._fault[opened]
        found: dict[int, float] = {}
        for index in np.flatnonzero(of_fault >= 0).tolist():
            number = int(of_fault[index])
            delay_us = int(self._end_us[opened[index]]) - self.faults[number].onset_us
            found.setdefault(number, delay_us / MICROSECONDS)
        firsts = np.array([fault.first for fault in self.faults], np.int64)
        before = np.searchsorted(opened, firsts) - 1  # the last incident that opened before each fault
        normal, anomalous = self._normal_before, self._anomalous_before
        return AlertFigures(
            delays_s=tuple(found.get(number) for number in range(len(self.faults))),
            already_open=int((until[before] > firsts)[before >= 0].sum()) if len(opened) else 0,
            false_alerts=int((of_fault == _HEALTHY).sum()),
            unlabelled_alerts=int((of_fault == _NEITHER).sum()),
            normal_s=self.normal_s,
            normal_frames=int(normal[-1]),
            anomalous_frames=int(anomalous[-1]),
            normal_open=int((normal[until] - normal[opened]).sum()),
            anomalous_open=int((anomalous[until] - anomalous[opened]).sum()),
        )


def watched(stream: ScoredStream, every_s: float = 0.0) -> float:
    """Return for how many seconds a machine was watched while it was labelled normal; see :meth:`LabelledWatch.of`."""
    kept = np.flatnonzero(stream.status != LATE)
    if not len(kept):
        return 0.0
    begin_us, duration_s, label = stream.recorded_us[kept], stream.duration_s[kept], stream.label[kept]
    gaps_s = np.append(np.diff(begin_us) / MICROSECONDS, duration_s[-1])
    longest = np.maximum(max(MOST_WATCHED_S, every_s), MOST_WATCHED_FRAMES * duration_s)
    normal_s = float(np.minimum(gaps_s, longest)[label == NORMAL].sum())
    firsts = [first for first, _ in runs(label == ANOMALY)]  # up to its onset, a fault's first frame is normal
    return normal_s + float((stream.onset_us[kept] - begin_us)[firsts].sum()) / MICROSECONDS


def runs(chosen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    return [(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]
