"""``whirr simulate``: recordings of simulated machines, with the truth about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commands._options import AsJson, takes
from commands._output import cell, print_json, print_line, stderr, stdout
from edge_agent.simulator import Plant, SimulateConfig, WrittenRecording, write_plant
from whirr.counts import counted


@takes(SimulateConfig)
def simulate(config: SimulateConfig, *, as_json: AsJson = False) -> None:
    """Write OUT/<machine>/train and OUT/<machine>/test, with OUT/truth.json and OUT/truth.csv beside them.

    In the test run faults begin and grow at known times; sort the recordings by the number in their names.
    """
    with stderr.status("simulating …") as status:
        written = write_plant(config, lambda machine_id: status.update(f"simulating {machine_id} …"))
    if as_json:
        print_json(_summary(config, written))
    else:
        _print_table(config.make(), config.out, written)


def _summary(config: SimulateConfig, written: list[WrittenRecording]) -> dict[str, Any]:
    machines = config.make().machines
    return {
        "out": str(config.out),
        "plant": config.plant,
        "seed": config.seed,
        "seconds": config.seconds,
        "recordings": len(written),
        "machines": [spec.machine_id for spec in machines],
        "faulty": {spec.machine_id: spec.faults[0].kind for spec in machines if spec.faults},
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
    print_line(f"{counted(len(written), 'recording')} in {out}; the truth about them is in truth.json and truth.csv.")
