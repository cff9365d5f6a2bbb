"""Screening: what a detector must not learn from, found in the recordings before it is fitted.

Recordings are cut into frames as a gateway would cut them, and each is judged by the worker's own sensor check. What is
flat or clipped, or flat for long enough to empty half a spectrum (a logger that stopped, a dropout), is left out; so is
what was heard already: a copy tells nothing new, and thresholds must not be made from what was trained on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from recordings.cut import frame_bounds
from recordings.find import Problem
from schemas import FeatureConfig
from schemas.errors import RecordingError
from stream_app.pipeline.sensor import FLAT_PEAK_TO_PEAK, sensor_fault
from trainer.dataset import HeldOutSet
from trainer.reading import Float32, computed, samples_of
from trainer.recording_set import OnError, Recording, RecordingSet, Segment
from trainer.thresholds import Calibrated
from trainer.train_options import HELD_OUT_SHARE
from whirr.counts import counted

MAX_FAULTY: Final = 0.5  # of all frames; beyond it the sensor is what is wrong, and not some recordings
ALIKE: Final = 0.999  # correlation of two recordings' steps from sample to sample, beyond which one is a copy
OFFSET: Final = 0.05  # of full scale, from the other recordings' mean, for an offset to be worth a word
LEAST_TRAIN, LEAST_HELD_OUT = 4, 2  # windows and frames; fewer say nothing of what varies
ABSURD: Final = 20.0  # times the normals' median score: a threshold beyond it rests on something unlike them
_SKETCH = 1024  # samples that recordings are compared by
_ROUGH = 16  # every so many of them decide whether the others are looked at
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A segment of a recording that is not used, and why."""

    name: str
    start_s: float
    stop_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Screened:
    """What a folder's recordings are worth.

    Attributes:
        found: The recordings of which something is used.
        left_out: What is not used of those.
        remarks: What is used, and worth a word.
        good: First sample and end of each segment to use, by recording.
    """

    found: RecordingSet
    left_out: tuple[LeftOut, ...]
    remarks: tuple[Problem, ...]
    good: Mapping[str, Sequence[tuple[int, int]]]

    def of(self, segments: Sequence[Segment]) -> list[Segment]:
        """Return what is to be used of segments of recordings."""
        return [
            Segment(segment.recording, max(segment.start, start), min(segment.stop, stop))
            for segment in segments
            for start, stop in self.good[segment.recording.name]
            if min(segment.stop, stop) > max(segment.start, start)
        ]

    def without(self, problems: Sequence[Problem], on_error: OnError) -> Screened:
        """Return what is left without more files that can't be used: see :meth:`.RecordingSet.without`."""
        return Screened(self.found.without(problems, on_error), self.left_out, self.remarks, self.good)


@dataclass(frozen=True, slots=True)
class _ScreenedFrame:
    """One frame's place, what is wrong with it, and what tells it from others."""

    start: int
    stop: int
    fault: str | None
    digest: bytes


@dataclass(frozen=True, slots=True)
class _RecordingScan:
    """What is kept of a recording that was listened to: its frames, offset per channel, and some of its samples."""

    frames: tuple[_ScreenedFrame, ...]
    offset: float
    sketch: Float32


def screen(found: RecordingSet, config: FeatureConfig, frame_s: float, on_error: OnError) -> Screened:
    """Listen to all recordings, and say what of them is not to be learnt.

    Args:
        found: The recordings.
        config: The features that will be computed.
        frame_s: Length of a frame in seconds.
        on_error: ``fail`` raises where anything is wrong with a sensor.

    Raises:
        RecordingError: More than half of the frames have a fault, nothing is left, or ``on_error`` is ``fail`` and a
            file or a frame can't be used.
    """
    problems: list[Problem] = []
    segments = [Segment(recording, 0, recording.samples) for recording in found.recordings]
    work = computed(segments, lambda segment: [_scan(segment, config, frame_s)], problems)
    scans = {segment.recording.name: one for segment, (one,) in work}
    recordings = [recording for recording in found.recordings if recording.name in scans]
    _check_share(recordings, scans)
    copies = _copies(recordings, scans)
    problems += copies
    known = {problem.name for problem in copies}
    left_out: list[LeftOut] = []
    good: dict[str, list[tuple[int, int]]] = {}
    seen: dict[bytes, str] = {}
    for recording in (one for one in recordings if one.name not in known):
        wrong = list(_wrong(recording, scans[recording.name], seen))
        good[recording.name] = _segments(recording, scans[recording.name].frames, wrong)
        if good[recording.name]:
            left_out += wrong
        else:
            problems.append(Problem(recording.name, _main_reason(wrong)))
    if on_error == "fail" and left_out:
        raise RecordingError(f"{left_out[0].name}: {left_out[0].reason}, from {left_out[0].start_s:.3g} s on")
    used = found.without(problems, on_error) if problems else found.checked(on_error)
    return Screened(used, tuple(left_out), tuple(_remarks(used, scans)), good)


def check_enough(
    windows: int, held_out: int, found: RecordingSet, frame_s: float, held_out_share: float = HELD_OUT_SHARE
) -> None:
    """Refuse to make a detector from next to nothing.

    Args:
        windows: To train on.
        held_out: Frames held out for thresholds.
        found: The recordings that they are from.
        frame_s: Length of a frame in seconds.
        held_out_share: What was asked to be held out.

    Raises:
        RecordingError: There are too few; the message says how many are needed.
    """
    if windows >= LEAST_TRAIN and held_out >= LEAST_HELD_OUT:
        return
    copies = [problem for problem in found.problems if "copy of" in problem.reason]
    apart = f" ({counted(len(copies), 'copy of one counts', 'copies of them count')} once)" if copies else ""
    count = len(found.recordings)
    if held_out_share != HELD_OUT_SHARE and found.duration_s >= (LEAST_TRAIN + LEAST_HELD_OUT) * frame_s:
        raise RecordingError(
            f"held_out_share is {held_out_share:g}: it leaves too little of {counted(count, 'recording')}"
            f"{apart} of {found.duration_s:.3g} s; expected one that leaves {LEAST_TRAIN} windows to train on and "
            f"{LEAST_HELD_OUT} frames for thresholds, such as {HELD_OUT_SHARE}"
        )
    raise RecordingError(
        f"too few: {counted(count, 'different recording')}{apart} of {found.duration_s:.3g} s give {windows} "
        f"windows to train on and {held_out} frames for thresholds; expected at least {LEAST_TRAIN} and "
        f"{LEAST_HELD_OUT}: some {(LEAST_TRAIN + LEAST_HELD_OUT) * frame_s:.3g} s of normal signal as the least, and "
        "minutes for thresholds to be trusted"
    )


def _scan(segment: Segment, config: FeatureConfig, frame_s: float) -> _RecordingScan:
    samples, rate_hz = samples_of(segment), segment.recording.rate_hz
    shortest = max(32, round(config.n_fft / 4 * rate_hz / config.sample_rate_hz))
    bounds = frame_bounds(samples.shape[1], rate_hz, frame_s)
    end = bounds[-1][1] if bounds else 0
    if samples.shape[1] - end >= shortest:
        bounds.append((end, samples.shape[1]))  # what is left at the end is trained on too
    frames = [_frame(samples, start, stop, shortest) for start, stop in bounds]
    every = 7 if samples.shape[1] > 7 * _SKETCH else 1
    steps = np.diff(samples[0, : every * _SKETCH + 1].astype(np.float64))[::every]
    norm = float(np.linalg.norm(steps))
    kept = np.zeros(_SKETCH, np.float32)
    kept[: len(steps)] = steps / norm if norm > 0 else 0
    return _RecordingScan(tuple(frames), float(np.abs(samples.mean(axis=1)).max()), kept)


def _frame(samples: Float32, start: int, stop: int, shortest: int) -> _ScreenedFrame:
    own = samples[:, start:stop]
    digest = hashlib.blake2b(np.ascontiguousarray(own).tobytes(), digest_size=16).digest()
    return _ScreenedFrame(start, stop, sensor_fault(own) or _dropout(own, shortest), digest)


def _dropout(samples: Float32, shortest: int) -> str | None:
    """Return ``flat in part`` where a channel stands still for twice ``shortest`` samples or more."""
    blocks = samples[:, : samples.shape[1] // shortest * shortest].reshape(len(samples), -1, shortest)
    flat = np.ptp(blocks, axis=2) <= FLAT_PEAK_TO_PEAK
    return "flat in part" if flat.any() else None


def _check_share(recordings: Sequence[Recording], scans: Mapping[str, _RecordingScan]) -> None:
    """Refuse a folder whose sensor seems to be at fault."""
    faults = Counter(frame.fault for recording in recordings for frame in scans[recording.name].frames)
    total, faulty = faults.total(), faults.total() - faults[None]
    if total and faulty > MAX_FAULTY * total:
        kinds = ", ".join(f"{count} {fault}" for fault, count in faults.most_common() if fault is not None)
        first = next(one.name for one in recordings if any(frame.fault for frame in scans[one.name].frames))
        raise RecordingError(
            f"{faulty} of {total} frames have a sensor fault ({kinds}), in {first!r} first; expected at most "
            f"{MAX_FAULTY:.0%}: look at the sensor, or leave these recordings out"
        )


def _copies(recordings: Sequence[Recording], scans: Mapping[str, _RecordingScan]) -> list[Problem]:
    """Return the recordings that are copies of an earlier one, as they are or at another level."""
    comparable = [one for one in recordings if scans[one.name].sketch.any()]
    sketches = np.array([scans[one.name].sketch for one in comparable]).reshape(-1, _SKETCH)
    rough = sketches[:, ::_ROUGH]
    rough = rough / np.maximum(np.linalg.norm(rough, axis=1, keepdims=True), 1e-12)
    original: dict[int, int] = {}
    for begin in range(0, len(comparable), _BLOCK):
        close = np.argwhere(np.abs(rough[begin : begin + _BLOCK] @ rough.T) > 0.99)
        for row, other in close:
            later, earlier = max(begin + row, other), min(begin + row, other)
            same = later != earlier and abs(float(sketches[later] @ sketches[earlier])) > ALIKE
            if same and later not in original and _alike(comparable[later], comparable[earlier]):
                original[later] = original.get(earlier, earlier)
    return [
        Problem(comparable[later].name, f"a copy of {comparable[earlier].name}") for later, earlier in original.items()
    ]


def _alike(one: Recording, other: Recording) -> bool:
    """Whether two recordings have the same signal over all that both hold, whatever its level."""
    if one.rate_hz != other.rate_hz or one.channels != other.channels:
        return False
    length = min(one.samples, other.samples)
    first, second = (np.diff(samples_of(Segment(each, 0, length)).astype(np.float64)) for each in (one, other))
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    return bool(norms > 0 and abs(np.sum(first * second)) > ALIKE * norms)


def _wrong(recording: Recording, scan: _RecordingScan, seen: dict[bytes, str]) -> Iterator[LeftOut]:
    """Yield the frames of a recording that are not to be used; take note of the others."""
    for frame in scan.frames:
        reason = frame.fault
        if reason is None and frame.digest in seen:
            reason = f"a copy of a part of {seen[frame.digest]}"
        if reason is None:
            seen[frame.digest] = recording.name
            continue
        yield LeftOut(recording.name, frame.start / recording.rate_hz, frame.stop / recording.rate_hz, reason)


def _segments(
    recording: Recording, frames: Sequence[_ScreenedFrame], wrong: Sequence[LeftOut]
) -> list[tuple[int, int]]:
    """Return the segments of successive frames that are to be used."""
    if not wrong:
        return [(0, recording.samples)]
    bad = {one.start_s for one in wrong}
    segments: list[tuple[int, int]] = []
    for frame in frames:
        if frame.start / recording.rate_hz in bad:
            continue
        if segments and segments[-1][1] == frame.start:
            segments[-1] = (segments[-1][0], frame.stop)
        else:
            segments.append((frame.start, frame.stop))
    longest = max((frame.stop - frame.start for frame in frames), default=0)
    return [(start, stop) for start, stop in segments if stop - start >= longest]


def _main_reason(wrong: Sequence[LeftOut]) -> str:
    reasons = Counter(one.reason for one in wrong)
    return ", ".join(reason for reason, _ in reasons.most_common(2))


def _remarks(found: RecordingSet, scans: Mapping[str, _RecordingScan]) -> Iterator[Problem]:
    """Yield what sets recordings apart from the others, though they are used."""
    rate_hz = found.rates_hz.most_common(1)[0][0]
    channels = Counter(one.channels for one in found.recordings).most_common(1)[0][0]
    offset = float(np.median([scans[one.name].offset for one in found.recordings]))
    for one in found.recordings:
        if one.rate_hz != rate_hz:
            yield Problem(one.name, f"{one.rate_hz} Hz, where most have {rate_hz} Hz")
        if one.channels != channels:
            yield Problem(one.name, f"{one.channels} channels, where most have {channels}")
        if abs(scans[one.name].offset - offset) > OFFSET:
            yield Problem(one.name, f"an offset of {scans[one.name].offset:.2g} of full scale; most have {offset:.2g}")


def warnings(calibrated: Calibrated, held_out: HeldOutSet, scores: Float32) -> tuple[str, ...]:
    """Return what makes a threshold hard to believe, one line each.

    Args:
        calibrated: The thresholds.
        held_out: The windows that they were made from.
        scores: The windows' scores, float32 [window].
    """
    runs = held_out.frame_scores(scores)
    median = float(np.median(np.concatenate([run for own in runs.values() for run in own])))
    lines = []
    for label, own in (("pooled", calibrated.pooled), *calibrated.by_machine.items()):
        if own.alert_threshold <= ABSURD * median:
            continue
        odd = sorted({frame.recording for frame in held_out.frames if frame.score(scores) > ABSURD / 2 * median})
        why = f"{', '.join(odd[:3])} score unlike the others" if odd else "there are too few held-out normals"
        lines.append(
            f"the alert threshold ({label}) {own.alert_threshold:.3g} is {own.alert_threshold / median:,.0f} times the "
            f"normals' median score {median:.3g}: {why}"
        )
    return tuple(lines)
