"""What Whirr remembers of a stream between two frames: constant-size, and compact as bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from stream_app.pipeline.rolling import RollingMean
from stream_app.pipeline.rule import Incident, Latch
from stream_app.pipeline.statistics import STATISTICS

VERSION = 1
NEVER = -(2**63)
_HEAD = struct.Struct("<BqqqQQq16s")
_LATCH = struct.Struct("<QH?")
_FAULTS = ("", "flat", "clipped")
_SUMS = len(STATISTICS)
_INCIDENT = 16 + 2 * _LATCH.size
_SIZE = _HEAD.size + 3 * _INCIDENT + 1 + 8 * (1 + _SUMS)


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
        machine: Incident of the machine.
        sensor: Incident of its signal (flat or clipped); ``sensor_fault`` says which opened it.
        silent: Incident of its absence; only its ``incident_id`` is used.
        rolling: Rolling mean of the statistics.
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
        return head + incidents + fault + struct.pack("<d", self.rolling.weight) + self.rolling.sums.tobytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> StreamState:
        """Return the state that :meth:`to_bytes` wrote.

        Raises:
            ValueError: Another version wrote it, or it is damaged.
        """
        if len(raw) != _SIZE or raw[0] != VERSION:
            found = f"{len(raw)} bytes of version {raw[0] if raw else 'none'}"
            raise ValueError(f"stream state: {found}; expected {_SIZE} bytes of version {VERSION}")
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
        )


def newest_of(raw: bytes) -> int:
    """Return ``newest_us`` of a state as bytes without unpacking the rest.

    Raises:
        ValueError: Another version wrote it, or it is damaged.
    """
    if len(raw) != _SIZE or raw[0] != VERSION:
        return StreamState.from_bytes(raw).newest_us
    newest: int = struct.unpack_from("<q", raw, 1)[0]
    return newest


def _hex(raw: bytes) -> str:
    # 16 zero bytes stand for "none": no SHA-256 is expected to begin with them.
    return raw.hex() if any(raw) else ""


def _pack_incident(incident: Incident) -> bytes:
    latches = (_LATCH.pack(x.recent, min(x.below, 0xFFFF), x.on) for x in (incident.alert, incident.critical))
    return bytes.fromhex(incident.incident_id).ljust(16, b"\0") + b"".join(latches)


def _unpack_incident(raw: bytes, at: int) -> Incident:
    latches = (Latch(*_LATCH.unpack_from(raw, at + 16 + i * _LATCH.size)) for i in range(2))
    return Incident(_hex(raw[at : at + 16]), *latches)
