"""``whirr simulate``: recordings of simulated machines, with the truth about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from commands._options import AsJson
from commands._output import cell, print_json, print_line, stderr, stdout

if TYPE_CHECKING:
    from edge_agent.simulator import Plant, WrittenRecording


def simulate(
    *,
    out: Annotated[Path, typer.Option(help="Folder to write to; must be new or empty.", show_default=False)],
    plant: Annotated[
        str,
        typer.Option(
            help="default (seven machines with microphones, 16 kHz) or accelerometers (two, three axes, 200 Hz)."
        ),
    ] = "default",
    seed: Annotated[int, typer.Option(min=0, help="The same seed and options write the same bytes.")] = 0,
    seconds: Annotated[float, typer.Option(help="Length of the test run that faults develop in.")] = 180.0,
    train_seconds: Annotated[float, typer.Option(help="Length of the healthy run to train on.")] = 120.0,
    recording_s: Annotated[float, typer.Option(help="Length of one recording in seconds.")] = 10.0,
    rate: Annotated[int | None, typer.Option(min=100, help="Samples a second; default: the plant's own.")] = None,
    file_format: Annotated[Literal["wav", "flac"], typer.Option("--format", help="File format, 16 bit.")] = "wav",
    as_json: AsJson = False,
) -> None:
    """Write OUT/<machine>/train and OUT/<machine>/test, with OUT/truth.json and OUT/truth.csv beside them.

    In the test run faults begin and grow at known times; sort the recordings by the number in their names.
    """
    from edge_agent.simulator import make_plant, write_plant

    made = make_plant(plant, seconds=seconds)
    with stderr.status("simulating …") as status:
        written = write_plant(
            made,
            out,
            seed=seed,
            train_seconds=train_seconds,
            recording_s=recording_s,
            rate_hz=rate,
            file_format=file_format,
            progress=lambda machine_id: status.update(f"simulating {machine_id} …"),
        )
    if as_json:
        print_json(_summary(made, out, seed, written))
    else:
        _print_table(made, out, written)


def _summary(plant: Plant, out: Path, seed: int, written: list[WrittenRecording]) -> dict[str, Any]:
    return {
        "out": str(out),
        "plant": plant.name,
        "seed": seed,
        "seconds": plant.seconds,
        "recordings": len(written),
        "machines": [spec.machine_id for spec in plant.machines],
        "faulty": {spec.machine_id: spec.faults[0].kind for spec in plant.machines if spec.faults},
    }


def _print_table(plant: Plant, out: Path, written: list[WrittenRecording]) -> None:
    from rich.table import Table

    table = Table("machine", "kind", "shaft Hz", "recordings", "what happens")
    for spec in plant.machines:
        happens = [f"{fault.kind} from {fault.onset_s:g} s" for fault in spec.faults]
        happens += [f"off from {off.from_s:g} to {off.to_s:g} s" for off in spec.off]
        count = sum(row.machine_id == spec.machine_id for row in written)
        table.add_row(
            cell(spec.machine_id),
            spec.kind,
            f"{spec.nominal_hz:.1f}",
            str(count),
            ", ".join(happens) or "stays healthy",
        )
    stdout.print(table)
    print_line(f"{len(written)} recordings in {out}; the truth about them is in truth.json and truth.csv.")
