"""Whether the demo went well: frames lost, faults missed, false alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from examples.demo.machines import DemoMachine
from examples.demo.observer import Received, latency_ms
from schemas import parse_rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOutcome:
    """What became of one machine.

    Attributes:
        opened: Incidents opened after the onset.
        false_alerts: Incidents opened on a healthy machine, before the onset, or of a sensor.
        delay_s: Recording time from the onset to the first of ``opened``, or None.
    """

    machine: DemoMachine
    frames: int
    idle: int
    highest_ratio: float
    opened: int
    false_alerts: int
    delay_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOutcome:
    """The demo's figures; the last line it prints."""

    published: int
    scored: int
    dead_lettered: int
    lost: int
    faulty: int
    alerted: int
    missed: int
    false_alerts: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def machine_outcome(machine: DemoMachine, received: Received, start_us: int) -> MachineOutcome:
    """Return what became of a machine whose playing began at ``start_us``, recording time."""
    scores = [score for score in received.scores.values() if score["machine_id"] == machine.machine_id]
    opened = [
        ((parse_rfc3339(alert["recorded_at"]) - start_us) / 1e6, alert["kind"])
        for alert in received.alerts.values()
        if alert["machine_id"] == machine.machine_id and alert["state"] == "opened"
    ]
    # A fault within a frame is in the whole frame's score, so the frame that holds the onset may alert.
    onset_s = float("inf") if machine.onset_s is None else machine.onset_s - machine.frame_s
    # A sensor alert finds no machine's fault, and on a machine whose sensor is good it is a false one.
    true_s = [at_s for at_s, kind in opened if at_s > onset_s and kind == "machine"]
    return MachineOutcome(
        machine=machine,
        frames=len(scores),
        idle=sum(score["status"] == "idle" for score in scores),
        highest_ratio=max((s["score"] / s["threshold"] for s in scores if s["status"] == "scored"), default=0.0),
        opened=len(true_s),
        false_alerts=len(opened) - len(true_s),
        delay_s=max(0.0, min(true_s) - (machine.onset_s or 0.0)) if true_s else None,
    )


def summarise(published: int, received: Received, machines: Sequence[MachineOutcome]) -> DemoOutcome:
    """Return the figures of the whole run."""
    latencies = [ms for ms in map(latency_ms, received.alerts.values()) if ms is not None]
    p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (None, None)
    faulty = [found for found in machines if found.machine.onset_s is not None]
    alerted = sum(found.opened > 0 for found in faulty)
    return DemoOutcome(
        published=published,
        scored=len(received.scores),
        dead_lettered=len(received.dead_letters),
        lost=published - received.frames,
        faulty=len(faulty),
        alerted=alerted,
        missed=len(faulty) - alerted,
        false_alerts=sum(found.false_alerts for found in machines),
        latency_ms_p50=None if p50 is None else round(float(p50), 1),
        latency_ms_p99=None if p99 is None else round(float(p99), 1),
    )
