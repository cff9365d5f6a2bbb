"""``make bench-train``: how long a training takes, and how long its loop waits for the loader.

Clips of simulated machines (16 kHz, healthy) are written to a temporary folder, the time for which doesn't count, and
trained on as ``whirr train`` would, without MLflow. Early stopping is off, so that every epoch is timed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import orjson
import typer

RATE_HZ = 16_000


def write_clips(folder: Path, clips: int, clip_s: float) -> None:
    """Write clips of the simulator's default plant, the machines in turn."""
    import numpy as np
    import soundfile

    from edge_agent.simulator import make_plant

    plant = make_plant("default", seconds=clips * clip_s)
    machines = [plant.machine(spec.machine_id, seed=0, rate_hz=RATE_HZ, healthy=True) for spec in plant.machines]
    for number in range(clips):
        machine = machines[number % len(machines)]
        path = folder / machine.spec.machine_id / f"{number:05d}.wav"
        path.parent.mkdir(exist_ok=True)
        pcm = np.rint(machine.read(round(clip_s * RATE_HZ)) * 32767).astype(np.int16).T
        soundfile.write(path, pcm, RATE_HZ, subtype="PCM_16")


class Waits:
    """Counts the time that a loop spends waiting for a loader's next batch."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, loader: type) -> type:
        """Return a loader that is watched."""
        waits = self

        class Watched(loader):  # type: ignore[misc]
            def __iter__(self) -> Iterator[object]:
                batches = super().__iter__()
                while True:
                    began_s = time.perf_counter()
                    batch = next(batches, None)
                    waits.seconds += time.perf_counter() - began_s
                    if batch is None:
                        return
                    yield batch

        return Watched


def training(
    clips: Annotated[int, typer.Option(min=2, help="Recordings to train on, the held-out ones among them.")] = 1000,
    clip_s: Annotated[float, typer.Option(min=1, help="Length of a recording in seconds.")] = 10.0,
    epochs: Annotated[int, typer.Option(min=1, help="Fewer for a quick look.")] = 50,
    detector: Annotated[str, typer.Option(help="What learns.")] = "conv_ae",
) -> None:
    """Print how long a training takes; the last line is one JSON object."""
    from trainer import gradient
    from trainer.detector import EpochLoss
    from trainer.train import Observer, TrainConfig, train_model

    waits = Waits()
    gradient.WindowLoader = waits.watch(gradient.WindowLoader)  # type: ignore[misc]

    class Clock(Observer):
        def __init__(self) -> None:
            self.at_s = [time.perf_counter()]

        def on_windows(self, windows: int, held_out: int) -> None:  # noqa: ARG002
            self.at_s.append(time.perf_counter())
            print(f"features of {clips} clips: {self.at_s[1] - self.at_s[0]:.1f} s", file=sys.stderr, flush=True)

        def on_epoch(self, loss: EpochLoss) -> None:
            self.at_s.append(time.perf_counter())
            print(f"epoch {loss.epoch}: {self.at_s[-1] - self.at_s[-2]:.2f} s", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="whirr-bench-") as scratch:
        folder = Path(scratch, "clips")
        folder.mkdir()
        write_clips(folder, clips, clip_s)
        order = TrainConfig(
            normal=folder,
            out=Path(scratch, "model.onnx"),
            detector=detector,
            epochs=epochs,
            patience=0,
            accelerator="cpu",
            mlflow=False,
        )
        clock = Clock()
        result = train_model(order, clock)
    fitting_s = clock.at_s[-1] - clock.at_s[1]
    figures = {
        "detector": detector,
        "clips": clips,
        "clip_s": clip_s,
        "windows": result.windows,
        "epochs": epochs,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": round(result.seconds, 1),
        "features_s": round(clock.at_s[1] - clock.at_s[0], 1),
        "seconds_per_epoch": round(fitting_s / epochs, 3),
        "data_wait_share": round(waits.seconds / fitting_s, 4),
    }
    for name, value in figures.items():
        print(f"{name:18} {value}")
    print(orjson.dumps(figures).decode())


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    typer.run(training)
