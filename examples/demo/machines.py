"""The demo's machines: what each is trained on, what is played of it, and the truth about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from edge_agent.simulator import MachineSpec, SimulateConfig, write_plant
from edge_agent.simulator.plant_recordings import machine_truth
from recordings.find import Problem, checked_folder, sort_key, walk
from recordings.naming import MetadataResolver, RecordingMetadata
from schemas.errors import RecordingError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
RECORDING_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoMachine:
    """One machine of the demo.

    Attributes:
        machine_id: Key of its frames.
        train: Folder of normal recordings.
        live: Recordings to play, in order.
        live_s: How long they last together.
        shortest_s: Length of the shortest recording that is played.
        onset_s: When its fault begins, seconds into what is played; None for a healthy machine.
        fault: What breaks, or ''.
        off: When it is switched off and on again, seconds.
        running_dbfs, start_up_s: For its route; None and 0 where nothing is known of its level.
    """

    machine_id: str
    train: Path
    live: tuple[Path, ...]
    live_s: float
    shortest_s: float
    onset_s: float | None
    fault: str = ""
    off: tuple[tuple[float, float], ...] = ()
    running_dbfs: float | None = None
    start_up_s: float = 0.0

    @property
    def frame_s(self) -> float:
        """Length of its frames: a second, or the shortest recording if that is less."""
        return min(1.0, self.shortest_s)


def simulated(
    folder: Path, seconds: float, train_seconds: float, seed: int, progress: Callable[[str], None]
) -> list[DemoMachine]:
    """Simulate the default plant into ``folder`` and return its machines; two develop a fault, one is switched off."""
    config = SimulateConfig(
        out=folder, seed=seed, seconds=seconds, train_seconds=train_seconds, recording_s=RECORDING_S
    )
    write_plant(config, progress)
    return [_simulated_machine(folder / spec.machine_id, spec, seconds) for spec in config.make().machines]


def _simulated_machine(folder: Path, spec: MachineSpec, seconds: float) -> DemoMachine:
    truth = machine_truth(spec, seconds)
    live = tuple(sorted((folder / "test").glob("*.wav"), key=lambda path: path.stem.rpartition("_")[2]))
    return DemoMachine(
        machine_id=spec.machine_id,
        train=folder / "train",
        live=live,
        live_s=seconds,
        shortest_s=RECORDING_S,
        onset_s=min((fault.onset_s for fault in spec.faults), default=None),
        fault=", ".join(fault.kind.replace("_", " ") for fault in spec.faults),
        off=tuple((off.from_s, off.to_s) for off in spec.off),
        running_dbfs=truth["running_dbfs"],
        start_up_s=truth["start_up_s"],
    )


def recorded(folder: Path) -> list[DemoMachine]:
    """Return the machines of ``folder``: ``<machine>/train/*`` and ``<machine>/test/{normal,anomaly}*``.

    Of each the normal test recordings are played first, then the anomalous ones: the first of these is the onset.

    Raises:
        RecordingError: The folder holds no machine in this layout, or a recording that can't be played.
    """
    machines = list(_recorded_machines(folder))
    if not machines:
        raise RecordingError(
            f"{folder} has no machine; expected {folder}/<machine>/train/* and {folder}/<machine>/test/normal*, "
            f"anomaly* with {', '.join(sorted(SUFFIXES))}"
        )
    return machines


def _recorded_machines(folder: Path) -> Iterator[DemoMachine]:
    checked_folder(folder, "a folder for each machine")
    namer = MetadataResolver(folder)
    walked = list(walk(folder, SUFFIXES))
    for problem in (one for one in walked if isinstance(one, Problem)):
        raise RecordingError(f"{problem.name}: {problem.reason}")
    known = [namer.known(name) for name in sorted((one for one in walked if isinstance(one, str)), key=sort_key)]
    for machine in sorted({one.machine for one in known if one.machine is not None}, key=sort_key):
        own = [one for one in known if one.machine == machine]
        if unclear := next((one for one in own if one.unclear and one.split == "test"), None):
            raise RecordingError(f"{unclear.name}: {unclear.unclear}")
        train = _train_folder(folder, machine, known)
        normal, anomalous = (
            [folder / one.name for one in own if one.split == "test" and one.label == label]
            for label in ("normal", "anomaly")
        )
        if train is None or not (normal or anomalous):
            continue
        seconds = [_duration_s(path) for path in (*normal, *anomalous)]
        yield DemoMachine(
            machine_id=machine,
            train=train,
            live=(*normal, *anomalous),
            live_s=sum(seconds),
            shortest_s=min(seconds),
            onset_s=sum(seconds[: len(normal)]) if anomalous else None,
            fault="anomaly" if anomalous else "",
        )


def _duration_s(path: Path) -> float:
    try:
        return float(soundfile.info(path).duration)
    except soundfile.LibsndfileError as error:
        raise RecordingError(f"{path} can't be played: {error.error_string}") from None


def _train_folder(folder: Path, machine: str, known: list[RecordingMetadata]) -> Path | None:
    """Return the folder that holds a machine's recordings to train on, and nobody else's."""
    own = [folder / one.name for one in known if one.machine == machine and one.split == "train"]
    if not own:
        return None
    common = Path(os.path.commonpath([path.parent for path in own]))
    others = (one for one in known if one.machine != machine and (folder / one.name).is_relative_to(common))
    if other := next(others, None):
        raise RecordingError(f"{common} holds recordings of {machine} and {other.machine}; the demo needs one for each")
    return common
