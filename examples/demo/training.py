"""The demo's training: one model a machine, and the routes to them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomli_w

from commands._output import marked
from examples.demo.machines import DemoMachine


def train_models(machines: Sequence[DemoMachine], out: Path, seed: int) -> dict[str, Path]:
    """Train a model on each machine's normal recordings; return the model files by machine id."""
    folder = out / "models"
    folder.mkdir()
    began_s = time.monotonic()
    if not marked.is_terminal:  # where a status line is not shown, minutes would pass without a word
        marked.print(f"[bold]2[/]  training {len(machines)} models; this takes most of the time")
    with marked.status("2  training: loading torch") as status:
        from trainer.train import TrainConfig, train_model

        models = {}
        for number, machine in enumerate(machines, 1):
            status.update(f"2  training {number} of {len(machines)}: {machine.machine_id}")
            config = TrainConfig(
                normal=machine.train,
                out=folder / f"{machine.machine_id}.onnx",
                machine=machine.machine_id,
                frame_s=machine.frame_s,
                seed=seed,
                mlflow=False,
            )
            models[machine.machine_id] = train_model(config).out
    marked.print(f"[bold]2[/]  trained {len(models)} models on normal recordings in {time.monotonic() - began_s:.0f} s")
    return models


def write_settings(machines: Sequence[DemoMachine], models: Mapping[str, Path], path: Path) -> None:
    """Write the routing table that the demo's worker takes, as a user would write it."""
    text = "# The demo's routes: which model scores which machine. First match wins.\n"
    for machine in machines:
        route: dict[str, object] = {"match": machine.machine_id, "model": str(models[machine.machine_id].resolve())}
        if machine.running_dbfs is not None:
            route |= {"running_dbfs": machine.running_dbfs, "start_up_s": machine.start_up_s}
        text += f"\n[[route]]\n{tomli_w.dumps(route)}"
    path.write_text(text, encoding="utf-8")
