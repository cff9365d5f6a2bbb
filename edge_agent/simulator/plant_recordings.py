"""A plant written to a folder: recordings to train on, recordings to test with, and the truth about them.

    DIR/<machine>/train/normal_00000.wav
    DIR/<machine>/test/normal_00000.wav … anomaly_00007.wav
    DIR/truth.json      which fault, from when, how strong, when off, and every parameter
    DIR/truth.csv       one line for each recording

The number in a recording's name counts through its run, whatever its label, so sorting by number is sorting by time.
A recording is an anomaly if any part of it lies after the onset of a fault.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import orjson
import soundfile

from edge_agent.simulator.machine import Machine
from edge_agent.simulator.plant import Plant, PlantOptions
from edge_agent.simulator.spec import MachineSpec
from schemas.errors import RecordingError
from whirr import options
from whirr.options import option
from whirr.outputs import check_folder

RUNNING_MARGIN_DB = 9.0  # a machine this far below its level is switched off
TRUTH_STEP_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRecording:
    """One recording that was written: a line of ``truth.csv``.

    Attributes:
        file: Its path below the folder.
        part: ``train`` or ``test``.
        start_s, end_s: Where it lies in its run.
        label: ``normal`` or ``anomaly``.
        fault: Kind of fault, or ''.
        severity_start, severity_end: At its first and its last sample.
        off_s: Seconds of it during which the machine was not at full speed.
        level_dbfs: Root mean square.
    """

    file: str
    machine_id: str
    part: Literal["train", "test"]
    start_s: float
    end_s: float
    label: Literal["normal", "anomaly"]
    fault: str
    severity_start: float
    severity_end: float
    off_s: float
    level_dbfs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateConfig(PlantOptions):
    """What to simulate, and as which recordings."""

    out: Annotated[Path, option("folder to write to; must be new or empty")]
    train_seconds: Annotated[float, option("length of the healthy run to train on", ge=0)] = 120.0
    recording_s: Annotated[float, option("length of one recording in seconds", ge=0.1)] = 10.0
    rate_hz: Annotated[int | None, option("samples a second; default: the plant's own", name="rate", ge=100)] = None
    file_format: Annotated[Literal["wav", "flac"], option("file format, 16 bit", name="format")] = "wav"


def write_plant(
    config: SimulateConfig, progress: Callable[[str], None] = lambda _machine_id: None
) -> list[WrittenRecording]:
    """Write a plant's recordings, ``truth.json`` and ``truth.csv`` below ``config.out``.

    The same options write the same bytes.

    Raises:
        RecordingError: ``out`` holds something already.
        SettingsError: An option is out of range, or ``out`` can't be written to.
    """
    options.check(config)
    plant, out = config.make(), config.out
    _make_folder(out)
    rate_hz = config.rate_hz or plant.rate_hz
    written: list[WrittenRecording] = []
    for spec in plant.machines:
        progress(spec.machine_id)
        healthy = plant.machine(spec.machine_id, seed=config.seed, rate_hz=rate_hz, healthy=True)
        written += _write_run(healthy, "train", config.train_seconds, config)
        tested = plant.machine(spec.machine_id, seed=config.seed, rate_hz=rate_hz)
        written += _write_run(tested, "test", plant.seconds, config)
    truth = _truth(plant, rate_hz, config)
    (out / "truth.json").write_bytes(orjson.dumps(truth, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    with (out / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(WrittenRecording.__dataclass_fields__), lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in written)
    return written


def _make_folder(out: Path) -> None:
    check_folder(out, "--out")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise RecordingError(f"{out} is not empty; expected a new or an empty folder")


def _write_run(
    machine: Machine, part: Literal["train", "test"], seconds: float, form: SimulateConfig
) -> Iterator[WrittenRecording]:
    """Write the recordings of one run of one machine, and yield what each is."""
    spec, rate_hz = machine.spec, machine.rate_hz
    folder = form.out / spec.machine_id / part
    folder.mkdir(parents=True)
    for number, (first, last) in enumerate(_segments(seconds, form.recording_s, rate_hz)):
        samples = machine.read(last - first)
        start_s, end_s = first / rate_hz, last / rate_hz
        described = _describe(spec, start_s, end_s)
        path = folder / f"{described['label']}_{number:05d}.{form.file_format}"
        pcm = np.rint(samples * 32767).astype(np.int16).T
        soundfile.write(path, pcm, rate_hz, subtype="PCM_16", format=form.file_format.upper())
        yield WrittenRecording(
            file=path.relative_to(form.out).as_posix(),
            machine_id=spec.machine_id,
            part=part,
            level_dbfs=round(float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))), 2),
            **described,
        )


def _segments(seconds: float, recording_s: float, rate_hz: int) -> Iterator[tuple[int, int]]:
    """Yield first and past-the-last sample of each recording; a last one under half the length is left out."""
    total, length = round(seconds * rate_hz), round(recording_s * rate_hz)
    for first in range(0, total, length):
        last = min(first + length, total)
        if last - first >= length / 2:
            yield first, last


def _describe(spec: MachineSpec, start_s: float, end_s: float) -> dict[str, Any]:
    """Return the truth about one segment of a machine's run, as fields of :class:`WrittenRecording`."""
    begun = [fault for fault in spec.faults if fault.onset_s < end_s]
    severity = [max((float(fault.severity(t)) for fault in spec.faults), default=0.0) for t in (start_s, end_s)]
    grid = np.linspace(start_s, end_s, 1000, endpoint=False)
    return {
        "start_s": start_s,
        "end_s": end_s,
        "label": "anomaly" if begun else "normal",
        "fault": "+".join(fault.kind for fault in begun),
        "severity_start": round(severity[0], 4),
        "severity_end": round(severity[1], 4),
        "off_s": round(float(np.mean(spec.running(grid) < 1)) * (end_s - start_s), 2),
    }


def _truth(plant: Plant, rate_hz: int, config: SimulateConfig) -> dict[str, Any]:
    """Return what ``truth.json`` says."""
    return {
        "plant": plant.name,
        "seed": config.seed,
        "rate_hz": rate_hz,
        "seconds": plant.seconds,
        "train_seconds": config.train_seconds,
        "recording_s": config.recording_s,
        "machines": {spec.machine_id: machine_truth(spec, plant.seconds) for spec in plant.machines},
    }


def machine_truth(spec: MachineSpec, seconds: float) -> dict[str, Any]:
    """Return the truth about one machine's test run of ``seconds``.

    ``running_dbfs`` and ``start_up_s`` are what a route should say so that the machine's standstill is idle.
    """
    times = np.arange(0.0, seconds + TRUTH_STEP_S, TRUTH_STEP_S).clip(max=seconds)
    faults = [
        {
            **asdict(fault),
            "severity": [[float(t), round(float(s), 4)] for t, s in zip(times, fault.severity(times), strict=True)],
        }
        for fault in spec.faults
    ]
    return {
        "kind": spec.kind,
        "faults": faults,
        "off": [[off.from_s, off.to_s] for off in spec.off],
        "running_dbfs": round(spec.level_dbfs - RUNNING_MARGIN_DB, 1),
        "start_up_s": spec.run_up_s + 2.0,
        "frequencies_hz": spec.frequencies_hz,
        "parameters": {name: value for name, value in asdict(spec).items() if name not in ("faults", "off")},
    }
