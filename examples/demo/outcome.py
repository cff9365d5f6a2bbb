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
        opened: Alarms opened after the onset.
        false_alerts: Alarms opened on a healthy machine, before the onset, or of a sensor.
        delay_s: Recording time from the onset to the first alarm or early finding after it, or None.
        early, false_early: Early findings after the onset, and others.
    """

    machine: DemoMachine
    frames: int
    idle: int
    highest_ratio: float
    opened: int
    false_alerts: int
    delay_s: float | None
    early: int = 0
    false_early: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOutcome:
    """The demo's figures; the last line it prints.

    Attributes:
        alerted, early: Faulty machines that an alarm found, and others that an early finding did.
        missed: Faulty machines that nothing found.
    """

    published: int
    scored: int
    dead_lettered: int
    lost: int
    faulty: int
    alerted: int
    early: int
    missed: int
    false_alerts: int
    false_early: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def machine_outcome(machine: DemoMachine, received: Received, start_us: int) -> MachineOutcome:
    """Return what became of a machine whose playing began at ``start_us``, recording time."""
    scores = [score for score in received.scores.values() if score["machine_id"] == machine.machine_id]
    opened = [
        ((parse_rfc3339(alert["recorded_at"]) - start_us) / 1e6, alert["kind"], alert["state"])
        for alert in received.alerts.values()
        if alert["machine_id"] == machine.machine_id and alert["state"] in {"opened", "changed"}
    ]
    alarms = [at_s for at_s, _, state in opened if state == "opened"]
    early = [at_s for at_s, kind, state in opened if kind == "machine" and state == "changed"]
    # A fault within a frame is in the whole frame's score, so the frame that holds the onset may alert.
    onset_s = float("inf") if machine.onset_s is None else machine.onset_s - machine.frame_s
    # A sensor alert finds no machine's fault, and on a machine whose sensor is good it is a false one.
    true_s = [at_s for at_s, kind, state in opened if at_s > onset_s and kind == "machine" and state == "opened"]
    early_s = [at_s for at_s in early if at_s > onset_s]
    return MachineOutcome(
        machine=machine,
        frames=len(scores),
        idle=sum(score["status"] == "idle" for score in scores),
        highest_ratio=max((s["score"] / s["threshold"] for s in scores if s["status"] == "scored"), default=0.0),
        opened=len(true_s),
        false_alerts=len(alarms) - len(true_s),
        delay_s=max(0.0, min(true_s + early_s) - (machine.onset_s or 0.0)) if true_s or early_s else None,
        early=len(early_s),
        false_early=len(early) - len(early_s),
    )


def summarise(published: int, received: Received, machines: Sequence[MachineOutcome]) -> DemoOutcome:
    """Return the figures of the whole run."""
    latencies = [ms for ms in map(latency_ms, received.alerts.values()) if ms is not None]
    p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (None, None)
    faulty = [found for found in machines if found.machine.onset_s is not None]
    alerted = sum(found.opened > 0 for found in faulty)
    early = sum(found.early > 0 and not found.opened for found in faulty)
    return DemoOutcome(
        published=published,
        scored=len(received.scores),
        dead_lettered=len(received.dead_letters),
        lost=published - received.frames,
        faulty=len(faulty),
        alerted=alerted,
        early=early,
        missed=len(faulty) - alerted - early,
        false_alerts=sum(found.false_alerts for found in machines),
        false_early=sum(found.false_early for found in machines),
        latency_ms_p50=None if p50 is None else round(float(p50), 1),
        latency_ms_p99=None if p99 is None else round(float(p99), 1),
    )
