"""The demo's machines: what each is trained on, what is played of it, and the truth about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from edge_agent.simulator import MachineSpec, make_plant, write_plant
from edge_agent.simulator.recordings import machine_truth
from schemas.frame import MACHINE_ID
from whirr.errors import RecordingError

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
    plant = make_plant(seconds=seconds)
    write_plant(plant, folder, seed=seed, train_seconds=train_seconds, recording_s=RECORDING_S, progress=progress)
    return [_simulated_machine(folder / spec.machine_id, spec, seconds) for spec in plant.machines]


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
    if not folder.is_dir():
        raise RecordingError(f"{folder} is no folder")
    for home in sorted(path for path in folder.iterdir() if path.is_dir()):
        normal, anomalous = _test_recordings(home / "test")
        live = (*normal, *anomalous)
        if not live or not _recordings(home / "train"):
            continue
        if not MACHINE_ID.fullmatch(home.name):
            raise RecordingError(
                f"{home} is no machine id; expected a folder's name of 1 to 128 of A-Z a-z 0-9 . _ : -"
            )
        seconds = [_duration_s(path) for path in live]
        yield DemoMachine(
            machine_id=home.name,
            train=home / "train",
            live=live,
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


def _recordings(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _test_recordings(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return normal and anomalous recordings, told by how their names begin: ``abnormal`` holds ``normal``."""
    found = _recordings(folder)
    anomalous = [path for path in found if path.name.lower().startswith(("anomal", "abnormal"))]
    return [path for path in found if path.name.lower().startswith("normal")], anomalous
