"""What Whirr remembers of a stream between two frames: constant-size, and compact as bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from stream_app.pipeline.cusum import GROUPS, NEVER, Shift
from stream_app.pipeline.rolling import RollingMean, RollingScore
from stream_app.pipeline.rule import Incident, Latch
from stream_app.pipeline.statistics import STATISTICS

VERSION = 3
_BEFORE_SCORES = 1  # had no rolling scores
_BEFORE_SHIFT = 2  # had no evidence of a shift
_HEAD = struct.Struct("<BqqqQQq16s")
_LATCH = struct.Struct("<QH?")
_FAULTS = ("", "flat", "clipped")
_SUMS = len(STATISTICS)
_INCIDENT = 16 + 2 * _LATCH.size
_SCORES = struct.Struct("<qddd")
_SCORES_AT = _HEAD.size + 3 * _INCIDENT + 1 + 8 * (1 + _SUMS)
_SHIFT = struct.Struct("<dqqQd?")
_SHIFT_AT = _SCORES_AT + _SCORES.size
_BANDS_AT = _SHIFT_AT + _SHIFT.size
_SIZES = {_BEFORE_SCORES: _SCORES_AT, _BEFORE_SHIFT: _SHIFT_AT, VERSION: _BANDS_AT + 2 * GROUPS}
_SILENT_AT = _HEAD.size + 2 * _INCIDENT
_IN_SUMMARY_AT = _SILENT_AT + 16 + _LATCH.size - 1  # the last byte of its first latch


@dataclass(frozen=True, slots=True)
class StreamState:
    """The state of one stream: one machine's one source.

    Attributes:
        newest_us: Recording time of the newest frame applied; ``NEVER`` before the first.
        seen_us: Wall clock when that frame was scored, microseconds since the epoch.
        sequence: Its sequence number, or -1.
        frames: Frames applied.
        missing: Frames that gaps in the sequence say were lost.
        running_since_us: Recording time since which the machine runs, or ``NEVER`` while it does not.
        frame_id: The newest frame's identity; '' before the first.
        machine: Incident of the machine; its alarm is ``machine.alert.on``, its early finding ``shift.found``.
        sensor: Incident of its signal (flat or clipped); ``sensor_fault`` says which opened it.
        silent: Incident of its absence; of its latches only ``alert.on`` is used: whether it was reported together with
            that of many other streams.
        rolling: Rolling mean of the statistics.
        scores: Rolling mean and maximum of the scores.
        shift: Evidence of a lasting shift of the scores.
    """

    newest_us: int = NEVER
    seen_us: int = 0
    sequence: int = -1
    frames: int = 0
    missing: int = 0
    running_since_us: int = NEVER
    frame_id: str = ""
    machine: Incident = field(default_factory=Incident)
    sensor: Incident = field(default_factory=Incident)
    silent: Incident = field(default_factory=Incident)
    sensor_fault: str = ""
    rolling: RollingMean = field(default_factory=lambda: RollingMean(0.0, np.zeros(_SUMS)))
    scores: RollingScore = field(default_factory=RollingScore)
    shift: Shift = field(default_factory=Shift)

    def to_bytes(self) -> bytes:
        """Return the state as bytes of a fixed length that begin with a version."""
        head = _HEAD.pack(
            VERSION,
            self.newest_us,
            self.seen_us,
            self.sequence,
            self.frames,
            self.missing,
            self.running_since_us,
            bytes.fromhex(self.frame_id),
        )
        incidents = b"".join(map(_pack_incident, (self.machine, self.sensor, self.silent)))
        fault = bytes([_FAULTS.index(self.sensor_fault)])
        rolling = struct.pack("<d", self.rolling.weight) + self.rolling.sums.tobytes()
        scores, shift = self.scores, self.shift
        return (
            head
            + incidents
            + fault
            + rolling
            + _SCORES.pack(scores.newest_us, scores.weight, scores.total, scores.peak)
            + _SHIFT.pack(shift.evidence, shift.since_us, shift.strong_us, shift.frames, shift.total, shift.found)
            + shift.bands.tobytes()
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> StreamState:
        """Return the state that :meth:`to_bytes` wrote, also of versions 1 and 2; what they lacked begins anew.

        Raises:
            ValueError: Another version wrote it, or it is damaged.
        """
        version = _version(raw)
        _, newest_us, seen_us, sequence, frames, missing, running_since_us, frame_id = _HEAD.unpack_from(raw)
        machine, sensor, silent = (_unpack_incident(raw, _HEAD.size + i * _INCIDENT) for i in range(3))
        at = _HEAD.size + 3 * _INCIDENT
        return cls(
            newest_us=newest_us,
            seen_us=seen_us,
            sequence=sequence,
            frames=frames,
            missing=missing,
            running_since_us=running_since_us,
            frame_id=_hex(frame_id),
            machine=machine,
            sensor=sensor,
            silent=silent,
            sensor_fault=_FAULTS[raw[at]],
            rolling=RollingMean(struct.unpack_from("<d", raw, at + 1)[0], np.frombuffer(raw, "<f8", _SUMS, at + 9)),
            scores=RollingScore() if version == _BEFORE_SCORES else RollingScore(*_SCORES.unpack_from(raw, _SCORES_AT)),
            shift=_unpack_shift(raw) if version == VERSION else Shift(),
        )


def newest_of(state: StreamState | bytes) -> int:
    """Return ``newest_us`` of a state; of one as bytes without unpacking the rest.

    Raises:
        ValueError: The bytes are of another version, or damaged.
    """
    if isinstance(state, StreamState):
        return state.newest_us
    _version(state)
    newest: int = struct.unpack_from("<q", state, 1)[0]
    return newest


class StateHeader(NamedTuple):
    """What can be read of a state as bytes without unpacking it.

    Attributes:
        newest_us, seen_us, frames: As in :class:`StreamState`.
        silent_id: The incident of its silence, '' while it is heard.
        together: Whether that is reported together with others'.
    """

    newest_us: int
    seen_us: int
    frames: int
    silent_id: str
    in_summary: bool


def state_header(state: StreamState | bytes) -> StateHeader:
    """Return what a timer must know of a stream, from its state or from the state's bytes (a microsecond or two).

    Raises:
        ValueError: The bytes are of another version, or damaged.
    """
    if isinstance(state, StreamState):
        silent = state.silent
        return StateHeader(state.newest_us, state.seen_us, state.frames, silent.incident_id, silent.alert.on)
    _version(state)
    _, newest_us, seen_us, _, frames, _, _, _ = _HEAD.unpack_from(state)
    silent_id = _hex(state[_SILENT_AT : _SILENT_AT + 16])
    return StateHeader(newest_us, seen_us, frames, silent_id, bool(state[_IN_SUMMARY_AT]))


def silent_in_summary(state: StreamState | bytes, incident_id: str) -> bytes:
    """Return a state as bytes with its silence reported as part of one incident of many streams."""
    raw = state if isinstance(state, bytes) else state.to_bytes()
    incident = _pack_incident(Incident(incident_id, Latch(on=True)))
    return raw[:_SILENT_AT] + incident + raw[_SILENT_AT + _INCIDENT :]


def _version(raw: bytes) -> int:
    """Return the version of a state as bytes.

    Raises:
        ValueError: It is none that can be read here, or its length is not that version's.
    """
    version = raw[0] if raw else 0
    if _SIZES.get(version) != len(raw):
        raise ValueError(
            f"stream state: {len(raw)} bytes of version {version or 'none'}; "
            f"expected {_SIZES[VERSION]} bytes of version {VERSION}"
        )
    return version


def _hex(raw: bytes) -> str:
    # 16 zero bytes stand for "none": no SHA-256 is expected to begin with them.
    return raw.hex() if any(raw) else ""


def _pack_incident(incident: Incident) -> bytes:
    latches = (_LATCH.pack(x.recent, min(x.below, 0xFFFF), x.on) for x in (incident.alert, incident.critical))
    return bytes.fromhex(incident.incident_id).ljust(16, b"\0") + b"".join(latches)


def _unpack_shift(raw: bytes) -> Shift:
    evidence, since_us, strong_us, frames, total, found = _SHIFT.unpack_from(raw, _SHIFT_AT)
    bands = np.frombuffer(raw, "<f2", GROUPS, _BANDS_AT)
    return Shift(evidence, since_us, strong_us, frames, total, bands, found)


def _unpack_incident(raw: bytes, at: int) -> Incident:
    latches = (Latch(*_LATCH.unpack_from(raw, at + 16 + i * _LATCH.size)) for i in range(2))
    return Incident(_hex(raw[at : at + 16]), *latches)
