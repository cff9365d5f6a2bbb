"""What Whirr remembers of a stream between two frames: bounded, and compact as bytes.

As bytes a state has a head of fixed size, which tells what a timer must know, and then what only some streams have:
incidents that are remembered, exceptions, a baseline that begins anew. A flag says what is there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from stream_app.pipeline.cusum import GROUPS, NEVER, NO_SHIFT, Shift
from stream_app.pipeline.incident_memory import RememberedIncident
from stream_app.pipeline.rolling import RollingMean, RollingScore
from stream_app.pipeline.rule import Incident, Latch
from stream_app.pipeline.statistics import STATISTICS

VERSION = 4
_BEFORE_SCORES = 1  # had no rolling scores
_BEFORE_SHIFT = 2  # had no evidence of a shift
_BEFORE_VERDICTS = 3  # had none of the parts that only some streams have
_HEAD = struct.Struct("<BqqqQQq16s")
_LATCH = struct.Struct("<QH?")
SENSOR_FAULTS: Final = ("flat", "clipped")  # in the order of ``sensor_incidents``
_FAULTS = ("", *SENSOR_FAULTS)
_SUMS = len(STATISTICS)
_INCIDENT = 16 + 2 * _LATCH.size
_SCORES = struct.Struct("<qddd")
_SCORES_AT = _HEAD.size + 3 * _INCIDENT + 1 + 8 * (1 + _SUMS)
_SHIFT = struct.Struct("<dqqQd?")
_SHIFT_AT = _SCORES_AT + _SCORES.size
_BANDS_AT = _SHIFT_AT + _SHIFT.size
_FLAG_AT = _BANDS_AT + 2 * GROUPS
_SIZES = {_BEFORE_SCORES: _SCORES_AT, _BEFORE_SHIFT: _SHIFT_AT, _BEFORE_VERDICTS: _FLAG_AT}
# Of the flag's byte, three bits say how many incidents are remembered, and each other one that a part is there.
_REMEMBERED_BITS, _REMINDED, _ANEW, _FLAT_ID, _CLIPPED_ID = 0x07, 0x08, 0x10, 0x20, 0x40
_MODEL = struct.Struct("<8s")
_TIME = struct.Struct("<q")
_TIMES = struct.Struct("<qqq")
_REMEMBERED = struct.Struct("<16sffHqq")
_REMEMBERED_SIZE = _REMEMBERED.size + 2 * GROUPS
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
        remembered: What the frames of its last incidents were like, oldest first, at most 6; and of frames that may
            yet become one's, the last of them, which has no id.
        model: First 8 bytes, in hex, of the digest of the model that ``remembered`` is of; '' where nothing is.
        sensor_incidents: The last incident of the signal that was flat, and the last that was clipped; '' for none.
        reminded_us: Recording time when the machine's open incident began, or was last reminded of; ``NEVER``
            while none is open.
        anew_us: From which recording time on the verdict counts by which the stream last began anew.
        learning_since_us, learning_until_us: While it is learnt, or learnt anew: what was recorded since then is its
            normal state, and until when the learning may last, ``NEVER`` without a model; else ``NEVER``.
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
    shift: Shift = field(default_factory=lambda: NO_SHIFT)
    remembered: tuple[RememberedIncident, ...] = ()
    model: str = ""
    sensor_incidents: tuple[str, str] = ("", "")
    reminded_us: int = NEVER
    anew_us: int = NEVER
    learning_since_us: int = NEVER
    learning_until_us: int = NEVER

    def heard(  # noqa: PLR0913 - what a frame tells of its stream
        self,
        *,
        recorded_us: int,
        now_us: int,
        sequence: int,
        missing: int,
        running_since_us: int,
        frame_id: str,
        rolling: RollingMean,
        scores: RollingScore,
        learning_since_us: int,
        learning_until_us: int,
    ) -> StreamState:
        """Return the state after one more frame, before its incidents move; ``missing``: frames lost just before.

        Every frame makes one: written out, it takes half the time of :func:`dataclasses.replace`.
        """
        return StreamState(
            recorded_us,
            now_us,
            sequence,
            self.frames + 1,
            self.missing + missing,
            running_since_us,
            frame_id,
            self.machine,
            self.sensor,
            _HEARD,
            self.sensor_fault,
            rolling,
            scores,
            self.shift,
            self.remembered,
            self.model,
            self.sensor_incidents,
            self.reminded_us,
            self.anew_us,
            learning_since_us,
            learning_until_us,
        )

    def to_bytes(self) -> bytes:
        """Return the state as bytes that begin with a version."""
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
            + _pack_rest(self)
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> StreamState:
        """Return the state that :meth:`to_bytes` wrote, also of versions 1 to 3; what they lacked begins anew.

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
            shift=_unpack_shift(raw) if version >= _BEFORE_VERDICTS else Shift(),
            **(_unpack_rest(raw) if version == VERSION else _rest_of_old(newest_us, machine, sensor, raw[at])),
        )


_HEARD: Final = Incident()


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


def is_learning(state: StreamState | bytes) -> bool:
    """Return whether a stream's machine is learning, from its state or from the state's bytes."""
    if isinstance(state, StreamState):
        return state.learning_since_us != NEVER
    # Few streams have such times at all; those that were never learnt anew are told by a bit.
    if _version(state) != VERSION or not state[_FLAG_AT] & _ANEW:
        return False
    since_us: int = _unpack_rest(state)["learning_since_us"]
    return since_us != NEVER


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
    expected = _SIZES.get(version)
    if version == VERSION:
        expected = _size(raw[_FLAG_AT] if len(raw) > _FLAG_AT else 0)
    if expected != len(raw):
        raise ValueError(
            f"stream state: {len(raw)} bytes of version {version or 'none'}; "
            f"expected {expected or 'those'} bytes of a version up to {VERSION}"
        )
    return version


def _size(flag: int) -> int:
    """Return how long a state is whose flag says what is there."""
    remembered = flag & _REMEMBERED_BITS
    size = _FLAG_AT + 1 + remembered * _REMEMBERED_SIZE + (_MODEL.size if remembered else 0)
    size += _TIME.size * bool(flag & _REMINDED) + _TIMES.size * bool(flag & _ANEW)
    return size + 16 * (bool(flag & _FLAT_ID) + bool(flag & _CLIPPED_ID))


def _pack_rest(state: StreamState) -> bytes:
    """Return what only some streams have, behind the flag that says what it is."""
    flag, parts = len(state.remembered), []
    if state.remembered:
        parts.append(_MODEL.pack(bytes.fromhex(state.model)))
    for one in state.remembered:
        numbers = one.peak, one.cohesion, one.frames, one.first_us, one.last_us
        parts += [_REMEMBERED.pack(bytes.fromhex(one.incident_id), *numbers), one.shares.tobytes()]
    if state.reminded_us != NEVER:
        flag |= _REMINDED
        parts.append(_TIME.pack(state.reminded_us))
    if (times := (state.anew_us, state.learning_since_us, state.learning_until_us)) != (NEVER, NEVER, NEVER):
        flag |= _ANEW
        parts.append(_TIMES.pack(*times))
    for incident_id, bit in zip(state.sensor_incidents, (_FLAT_ID, _CLIPPED_ID), strict=True):
        if incident_id:
            flag |= bit
            parts.append(bytes.fromhex(incident_id))
    return bytes([flag]) + b"".join(parts)


def _unpack_rest(raw: bytes) -> dict[str, Any]:
    """Return the fields that :func:`_pack_rest` wrote."""
    flag, at = raw[_FLAG_AT], _FLAG_AT + 1
    found: dict[str, Any] = {}
    if remembered := flag & _REMEMBERED_BITS:
        found["model"] = raw[at : at + _MODEL.size].hex()
        at += _MODEL.size
        found["remembered"] = tuple(_unpack_remembered(raw, at + i * _REMEMBERED_SIZE) for i in range(remembered))
        at += remembered * _REMEMBERED_SIZE
    if flag & _REMINDED:
        (found["reminded_us"],) = _TIME.unpack_from(raw, at)
        at += _TIME.size
    if flag & _ANEW:
        found["anew_us"], found["learning_since_us"], found["learning_until_us"] = _TIMES.unpack_from(raw, at)
        at += _TIMES.size
    ids = ["", ""]
    for number, bit in enumerate((_FLAT_ID, _CLIPPED_ID)):
        if flag & bit:
            ids[number] = raw[at : at + 16].hex()
            at += 16
    found["sensor_incidents"] = tuple(ids)
    return found


def _unpack_remembered(raw: bytes, at: int) -> RememberedIncident:
    incident_id, peak, cohesion, frames, first_us, last_us = _REMEMBERED.unpack_from(raw, at)
    shares = np.frombuffer(raw, "<f2", GROUPS, at + _REMEMBERED.size)
    return RememberedIncident(_hex(incident_id), peak, cohesion, frames, first_us, last_us, shares)


def _rest_of_old(newest_us: int, machine: Incident, sensor: Incident, fault: int) -> dict[str, Any]:
    """Return what a state of an older version makes up for: verdicts until then had no effect, and have none now."""
    ids = tuple(sensor.incident_id if _FAULTS[fault] == name else "" for name in SENSOR_FAULTS)
    return {
        "sensor_incidents": ids,
        "reminded_us": newest_us if machine.incident_id else NEVER,
        "anew_us": newest_us,
    }


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
