"""Columns of a table: which are channels of a signal, which are left out and why, and what their times say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import RecordingError

Float64 = NDArray[np.float64]
LEAST_SAMPLES: Final = 16  # fewer values are a parameter, no signal
# What is kept beside a signal and is none, by its name without unit, digits and marks.
_BESIDE: Final = re.compile(
    r"temp(erature)?|humidity|rpm|speed|labels?|class|target|faults?|anomaly|state|status|index|idx|id|"
    r"sample|samples?no|samplenumber|count|counter|seq|sequence|row|line|packet|frame|battery|latitude|longitude|unnamed"
)
_TIME: Final = re.compile(
    r"times?|ts?|timestamps?|datetime|zeit|elapsed|elapsedtime|timeelapsed|timeaxis|"
    r"unix|unixts|unixtime|unixtimestamp|epoch|epochtime"
)
# A lone `s` needs something before it: `ts` and `times` state no unit.
_UNIT: Final = re.compile(
    r"(?P<base>.*?)(?:[\s_,/]*[(\[]?(?P<unit>ns|us|µs|μs|ms|secs?|seconds?)|(?:^|[\s_,/]+|[\s_,/]*[(\[])(?P<s>s))[)\]]?"
)
_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3}
# Seconds since 1970 with some digits more; no recording is 3 years long.
_SINCE_1970_S: Final = ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3))
_COUNTER_SHARE: Final = 0.95
_SELDOM: Final = 50  # a label changes less than once in so many samples
_FEW: Final = 10


@dataclass(frozen=True, slots=True)
class Selection:
    """What became of a table's columns.

    Attributes:
        channels: Names of those that were taken, in order.
        left_out: Name and reason of each that was not.
        remarks: What else is to be said, each as a kind and its details.
    """

    channels: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()


def time_unit_s(name: str) -> float | None:
    """Return the unit of a column of times in seconds, 0 where its name states none; None for another column."""
    lowered = name.strip().lower()
    if match := _UNIT.fullmatch(lowered):
        base = re.sub(r"[^a-z]", "", match["base"])
        unit = match["unit"] or match["s"]
        if _TIME.fullmatch(base) or (base == "" and unit in ("sec", "second", "seconds")):
            return _UNITS_S.get(unit, 1.0)
    return 0.0 if _TIME.fullmatch(re.sub(r"[^a-z]", "", lowered)) else None


def select(columns: Mapping[str, Any], wanted: Sequence[str], time: str | None) -> tuple[list[str], Selection]:
    """Return which columns are channels, and what became of all.

    Args:
        columns: By name: float64 [n], or None for one that holds text.
        wanted: Names to take, in order; empty: those that look like a signal.
        time: The column that holds the times, or None.

    Raises:
        RecordingError: A wanted column is not there or holds no numbers, or none looks like a signal.
    """
    if wanted:
        return _wanted(columns, wanted)
    reasons: dict[str, str] = {}
    for name, values in columns.items():
        why = "the time" if name == time else why_no_signal(name, values)
        if why is not None:
            reasons[name] = why
    numbers = [name for name in columns if name != time and columns[name] is not None]
    if len(numbers) == 1:  # what else could be meant
        reasons.pop(numbers[0], None)
    channels = [name for name in columns if name not in reasons]
    if not channels:
        told = "; ".join(f"{name!r}: {why}" for name, why in reasons.items()) or "it has none"
        raise RecordingError(f"no column looks like a signal ({told}); --columns NAME,… says which are channels")
    return channels, Selection(tuple(channels), tuple(reasons.items()))


def _wanted(columns: Mapping[str, Any], wanted: Sequence[str]) -> tuple[list[str], Selection]:
    known = {name.lower(): name for name in columns} | {name: name for name in columns}
    missing = [name for name in wanted if name not in known and name.lower() not in known]
    if missing:
        raise RecordingError(f"has no column {missing[0]!r}; expected some of {', '.join(map(repr, columns))}")
    channels = [known.get(name, known.get(name.lower(), name)) for name in wanted]
    text = [name for name in channels if columns[name] is None]
    if text:
        raise RecordingError(f"column {text[0]!r} holds text; expected numbers")
    others = tuple((name, "not among --columns") for name in columns if name not in channels)
    return channels, Selection(tuple(channels), others)


def why_no_signal(name: str, values: Any) -> str | None:
    """Return why a column is no channel, or None: it is one.

    An axis at rest keeps its noise, and so stays a channel however small that is beside gravity.
    """
    if values is None:
        return "text"
    if _BESIDE.fullmatch(re.sub(r"[^a-z]", "", re.sub(r"[(\[].*", "", name.lower()))):
        return "by its name"
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return "empty"
    steps = np.diff(finite)
    if not steps.any():
        return "constant"
    if len(finite) < LEAST_SAMPLES:
        return None
    looks = (
        (_is_label(finite, steps), "few values that seldom change, as a label has"),
        (bool((steps >= 0).all() or (steps <= 0).all()), "only ever rises or falls, as a counter or a time does"),
        (_is_wrapping(finite, steps), "a counter that begins anew"),
    )
    return next((why for is_so, why in looks if is_so), None)


def _is_label(values: Float64, steps: Float64) -> bool:
    return bool(np.count_nonzero(steps) * _SELDOM < len(steps) and len(np.unique(values)) <= _FEW)


def _is_wrapping(values: Float64, steps: Float64) -> bool:
    most = float(np.median(steps))
    same = steps == most
    if most == 0 or np.mean(same) < _COUNTER_SHARE:
        return False
    return bool((values == np.rint(values)).all() and (steps[~same] * most < 0).all())


def rate_of(times: Float64, unit_s: float) -> tuple[float, tuple[tuple[str, str], ...]]:
    """Return the rate of times in Hz, and remarks about gaps and jitter.

    Args:
        times: In units of ``unit_s``; float64 [n].
        unit_s: In seconds; 0 where it is not stated: seconds, or since 1970 in what their size says.

    Raises:
        RecordingError: The times go back, or are not evenly spaced.
    """
    if not np.isfinite(times).all():
        raise RecordingError(f"time is missing in row {int(np.argmin(np.isfinite(times))) + 1}; expected one in each")
    if unit_s == 0:
        largest = float(np.abs(times).max(initial=0.0))
        unit_s = next((unit for least, unit in _SINCE_1970_S if largest >= least), 1.0)
    # Before it is scaled: of times since 1970, little is left after the point.
    steps = np.diff(times) * unit_s
    if len(steps) == 0 or steps.min() < 0:
        where = f"times go back after row {int(np.argmax(steps < 0)) + 1}" if len(steps) else "holds one time"
        raise RecordingError(f"{where}; expected them to rise evenly")
    span_s = float(steps.sum())
    mean_s = span_s / len(steps)
    if span_s <= 0:
        raise RecordingError("times are all the same; expected them to rise evenly")
    median_s = float(np.median(steps))
    regular = np.abs(steps - median_s) <= 0.1 * median_s
    if median_s > 0 and np.mean(regular) >= 0.9:
        return _regular(steps, regular, span_s)
    # Steps that differ, such as of clocks of milliseconds or of samples that come in packets; each is about in place.
    off_s = float(np.abs(np.cumsum(steps) - mean_s * np.arange(1, len(steps) + 1)).max())
    if off_s > max(min(2.5 * mean_s, 0.05 * span_s), 0.01 * span_s):
        raise RecordingError(
            f"times are not evenly spaced in seconds (steps of {steps.min():.4g} to {steps.max():.4g} s, "
            f"{mean_s:.4g} s in the mean)"
        )
    detail = f"steps of {steps.min():.4g} to {steps.max():.4g} s, {mean_s:.4g} s in the mean"
    return 1 / mean_s, (("times jitter; samples are taken as evenly spaced", detail),)


def _regular(steps: Float64, regular: NDArray[np.bool_], span_s: float) -> tuple[float, tuple[tuple[str, str], ...]]:
    step_s = float(steps[regular].mean())
    gaps = np.flatnonzero(steps > 1.5 * step_s)
    if len(gaps) == 0:
        return len(steps) / span_s, ()
    lost_s = float(steps[gaps].sum() - len(gaps) * step_s)
    if lost_s > 0.1 * span_s:
        raise RecordingError(
            f"times are not evenly spaced in seconds: {lost_s:.4g} of {span_s:.4g} s are missing, "
            f"first after row {int(gaps[0]) + 1}"
        )
    detail = f"{lost_s:.4g} s in {len(gaps)} places, first after row {int(gaps[0]) + 1}"
    return 1 / step_s, (("samples are missing; what is left is put together", detail),)
