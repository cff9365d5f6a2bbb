"""What an operator feels: faults found, false alerts, and how long an alert takes, through the alert rule.

A machine's recordings are one stream, normals first, so whatever opens before the fault's onset is a false alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from backtest.evaluation.scoring import Course, Told

_OPENING: Final = frozenset({"opened", "anomalous"})
_INSTANT_S: Final = 1e-6  # frames' ends are sums of floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """What the alert rule made of one machine.

    Attributes:
        fault: Whether there are anomalous recordings; taken together they are one fault.
        found: Whether an incident opened after the fault's onset; None without a fault.
        delay_s: From the onset until the frame that opened the incident had been heard; None if none did.
        already_open: Whether an incident was open at the onset: a false alert, so it doesn't count as found.
        open_share: Share of the anomalous frames that ended while an incident was open; None without a fault.
        false_alerts: Incidents that opened before the onset.
        false_open_share: The same share of the normal frames, since one false alert may last; None without any.
        normal_s: Seconds of the stream before the onset.
        sensor_alerts: Incidents of the signal itself (flat, clipped), at any time; counted nowhere else.
        threshold: What frames were compared with.
    """

    fault: bool
    found: bool | None
    delay_s: float | None
    already_open: bool
    open_share: float | None
    false_alerts: int
    false_open_share: float | None
    normal_s: float
    sensor_alerts: int
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTotals:
    """The same over machines; delays are of the faults that were found."""

    faults: int
    found: int
    delay_s_median: float | None
    delay_s_max: float | None
    false_alerts: int
    normal_s: float
    sensor_alerts: int


def feel(course: Course) -> Alerts:
    """Return what an operator would have felt of a machine's course."""
    onset_s = course.end_s if course.onset_s is None else course.onset_s
    opened = [told.at_s for told in course.told if told.kind == "machine" and told.state in _OPENING]
    # A frame that holds the onset holds some of the fault, so it may alert.
    true_s = [at_s for at_s in opened if at_s > onset_s + _INSTANT_S]
    fault = course.onset_s is not None
    return Alerts(
        fault=fault,
        found=bool(true_s) if fault else None,
        delay_s=true_s[0] - onset_s if fault and true_s else None,
        already_open=fault and _is_open(course.told, onset_s),
        open_share=_open_share(course, anomalous=True),
        false_alerts=len(opened) - len(true_s),
        false_open_share=_open_share(course, anomalous=False),
        normal_s=onset_s,
        sensor_alerts=sum(told.kind == "sensor" and told.state in _OPENING for told in course.told),
        threshold=course.alert_threshold,
    )


def total(machines: Iterable[Alerts]) -> AlertTotals:
    """Return the sums over machines."""
    listed = list(machines)
    delays = [one.delay_s for one in listed if one.delay_s is not None]
    return AlertTotals(
        faults=sum(one.fault for one in listed),
        found=sum(bool(one.found) for one in listed),
        delay_s_median=float(np.median(delays)) if delays else None,
        delay_s_max=max(delays, default=None),
        false_alerts=sum(one.false_alerts for one in listed),
        normal_s=sum(one.normal_s for one in listed),
        sensor_alerts=sum(one.sensor_alerts for one in listed),
    )


def hours(seconds: float) -> float:
    """Return seconds as hours."""
    return seconds / 3600


def open_spans(told: Iterable[Told]) -> Iterator[tuple[float, float]]:
    """Yield from when to when an incident of the machine was open; one that never closed ends at infinity."""
    since: float | None = None
    for one in told:
        if one.kind != "machine":
            continue
        if one.state == "anomalous":
            yield one.at_s, one.at_s
        elif one.state == "opened":
            since = one.at_s
        elif one.state == "closed" and since is not None:
            yield since, one.at_s
            since = None
    if since is not None:
        yield since, float("inf")


def _is_open(told: Iterable[Told], at_s: float) -> bool:
    return any(since <= at_s + _INSTANT_S < until for since, until in open_spans(told))


def _open_share(course: Course, *, anomalous: bool) -> float | None:
    """Return the share of the frames of one label that ended while an incident was open; None without any."""
    spans = list(open_spans(course.told))
    ends = [
        frame.end_s for frame in course.frames if course.recordings[frame.recording].labelled.anomalous == anomalous
    ]
    return sum(any(since <= end <= until for since, until in spans) for end in ends) / len(ends) if ends else None
