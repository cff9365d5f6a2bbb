"""The plant under chaos: machines that break and are repaired, as recordings, as frames, and as what the oracle says.

The machines are alike, so that one model serves all. Each has a story of its own: healthy, then with a fault of some
strength for a while, repaired, and so on; sometimes its sensor goes dead. So there is much for alerts to tell.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from edge_agent.simulator import FaultSpec, MachineSpec, make_plant
from edge_agent.simulator.machine import Machine
from edge_agent.simulator.spec import FaultKind
from recordings.encode import encode
from recordings.samples import SignalFormat
from schemas import Alert, FrameRecord, Verdict, frame_headers, parse_frame
from stream_app.pipeline import Model, backtest
from tests.chaos.verdicts import verdicts_on
from whirr.settings import Route

RATE_HZ = 4000  # low, so that two cores can do the rest
FRAME_S = 1
SOURCE = "casing"
FAULTS: tuple[FaultKind, ...] = ("cavitation", "outer_race", "imbalance", "loose_part")
HEALTHY_EVERY = 5
VERDICTS = 6  # on incidents of machines, and one more of a sensor
TRAIN_MACHINES, TRAIN_S, TRAIN_RECORDING_S = 8, 40, 10
FORMAT = SignalFormat(RATE_HZ, 1, "pcm16")


@dataclass(frozen=True, slots=True)
class PlantMachine:
    """One machine.

    Attributes:
        machine_id: Key of its frames.
        recording: What its edge agent plays.
        samples: The same, int16 [1, n].
    """

    machine_id: str
    recording: Path
    samples: npt.NDArray[np.int16]


class PlantFrame(NamedTuple):
    """Which frame it is: of which machine, and its number, from 0."""

    machine_id: str
    number: int


class ExpectedAlert(NamedTuple):
    """An alert of the oracle's, and the number of the frame that leads to it."""

    state: str
    incident_id: str
    what: str
    frame: PlantFrame


@dataclass(frozen=True, slots=True)
class Expected:
    """What must come out: frames by frame id, alerts by alert id; and the verdicts that are given."""

    frames: dict[str, PlantFrame]
    alerts: dict[str, ExpectedAlert]
    verdicts: list[Verdict] = field(default_factory=list)


def write_training(folder: Path, seed: int) -> Path:
    """Write recordings of healthy machines to train on; return their folder."""
    folder.mkdir(parents=True)
    for number in range(TRAIN_MACHINES):
        machine = Machine(_spec().healthy(), seed=_seed(seed, number), rate_hz=RATE_HZ, run="train")
        for part in range(TRAIN_S // TRAIN_RECORDING_S):
            samples = _int16(machine.read(RATE_HZ * TRAIN_RECORDING_S))
            soundfile.write(folder / f"normal_{number:02d}{part:02d}.wav", samples.T, RATE_HZ, subtype="PCM_16")
    return folder


def write_plant(folder: Path, machines: int, frames: int, seed: int) -> list[PlantMachine]:
    """Write each machine's recording of ``frames`` frames below ``folder``."""
    plant = []
    for number in range(machines):
        machine_id = f"pump-{number:03d}"
        samples = _story(_seed(seed, 1000 + number), frames, healthy=number % HEALTHY_EVERY == 0)
        path = folder / machine_id / "run.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, samples.T, RATE_HZ, subtype="PCM_16")
        plant.append(PlantMachine(machine_id, path, samples))
    return plant


def start_us(frames: int) -> int:
    """Return when the first frames were recorded, so that all of it has been by now."""
    return (time.time_ns() // 10**9 - frames * FRAME_S - 60) * 10**6


def frames_of(plant: list[PlantMachine], began_us: int) -> Iterator[FrameRecord]:
    """Yield what the edge agents have to publish, all machines in step."""
    length = RATE_HZ * FRAME_S
    for number in range(max(machine.samples.shape[1] for machine in plant) // length):
        recorded_us = began_us + number * FRAME_S * 10**6
        for machine in plant:
            encoded = encode(machine.samples[:, number * length : (number + 1) * length], FORMAT)
            headers = frame_headers(
                machine.machine_id, SOURCE, recorded_us, encoded.value, number, encoded.content_type
            )
            yield FrameRecord(machine.machine_id.encode(), encoded.value, tuple(headers), recorded_us // 1000)


def expect(plant: list[PlantMachine], began_us: int, model: Path, route: Route) -> Expected:
    """Return what the oracle, the backtest in this process, makes of the same frames.

    It is asked twice: then people say something of some of the incidents that it told of.
    """
    first = _expect(plant, began_us, model, route, [])
    begun: dict[str, list[tuple[str, str, int]]] = {"machine": [], "sensor": []}
    seen = set()
    for alert in sorted(first.alerts.values(), key=lambda one: one.frame.number):
        kind, machine = alert.what.partition(" ")[0], alert.frame.machine_id
        if alert.state in ("opened", "changed") and machine not in seen:
            seen.add(machine)
            began = began_us + alert.frame.number * FRAME_S * 10**6
            begun[kind].append((machine, alert.incident_id, began))
    verdicts = verdicts_on(begun["machine"][:VERDICTS], begun["sensor"][:1])
    return _expect(plant, began_us, model, route, verdicts)


def _expect(plant: list[PlantMachine], began_us: int, model: Path, route: Route, verdicts: list[Verdict]) -> Expected:
    frames: dict[str, PlantFrame] = {}

    def noted() -> Iterator[FrameRecord]:
        for record in frames_of(plant, began_us):
            frame = parse_frame(record)
            frames[frame.frame_id] = PlantFrame(frame.machine_id, frame.sequence or 0)
            yield record

    alerts = {}
    for answer in backtest(noted(), {route.model: Model.load(model)}, [route], verdicts=verdicts):
        if isinstance(answer, Alert):
            assert answer.frame is not None
            what = f"{answer.kind} {answer.state}, {answer.severity}"
            frame = frames[answer.frame.frame_id]
            alerts[answer.alert_id] = ExpectedAlert(answer.state, answer.incident_id, what, frame)
    return Expected(frames, alerts, verdicts)


def _spec() -> MachineSpec:
    return make_plant().spec("pump-1")


def _seed(seed: int, number: int) -> int:
    return Random(f"{seed}/{number}").randrange(2**31)


def _story(seed: int, frames: int, healthy: bool) -> npt.NDArray[np.int16]:
    """Return a machine's signal, int16 [1, n]. The healthy signal runs on beneath the faults."""
    random = Random(seed)
    strength_db = random.uniform(2.0, 10.0)
    fault = FaultSpec(kind=random.choice(FAULTS), onset_s=0.0, first=1.0, last=1.0, strength_db=strength_db)
    sound = Machine(_spec().healthy(), seed=seed, rate_hz=RATE_HZ)
    broken = Machine(replace(_spec().healthy(), faults=(fault,)), seed=seed, rate_hz=RATE_HZ)
    pieces = []
    remaining = frames
    while remaining > 0:
        for kind, fewest, most in (("sound", 6, 16), (random.choice(("broken", "broken", "broken", "dead")), 1, 12)):
            length = min(random.randint(fewest, most), remaining)
            both = {"sound": sound.read(length * RATE_HZ), "broken": broken.read(length * RATE_HZ)}
            both["dead"] = np.zeros_like(both["sound"])
            pieces.append(both["sound"] if healthy else both[kind])
            remaining -= length
    return _int16(np.concatenate(pieces, axis=1))


def _int16(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return np.rint(samples * 32767).astype(np.int16)
