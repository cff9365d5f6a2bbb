"""``make bench-compare``: the ratios of a run of ``make bench`` beside those of a stored one.

Only ratios are judged, each taken within one run: the rest is a matter of the machine and is shown. Those that are
steady (:mod:`benchmarks.short`: of processor time, without a broker) may be worse by a tenth; others, which differ by
so much between two runs on one shared machine, by a quarter.

With ``--short`` the steady ones are measured here, in minutes: what is worse is measured again, twice at most, and
counts if it never was as good. Ratios depend on the processor, too: on another machine than the stored run's it is
said what is worse, and no failure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

STEADY: Final = (
    "logmel_vs_librosa",
    "logmel_vs_torch",
    "frame_cost_ffts_default",
    "frame_cost_ffts_conv_ae",
    "sweep_vs_sort",
)
TOLERANCE: Final = 0.1
TOLERANCE_OF_OTHERS: Final = 0.25
TRIES: Final = 3
_LOWER_IS_BETTER: Final = ("frame_cost_ffts_",)


class Compared(NamedTuple):
    """A figure of two runs; ``worse`` is None where it is not judged."""

    name: str
    base: float
    new: float | None
    worse: bool | None


def compare(base: dict[str, Any], new: dict[str, Any], tolerance: float | None = None) -> list[Compared]:
    """Return every figure of the stored run beside the new one.

    Args:
        base: The stored run, as ``make bench`` prints it in its last line.
        new: The run to be judged.
        tolerance: By which share a ratio may be worse; None: a tenth for steady ones, else a quarter.
    """
    same_broker = base.get("broker") == new.get("broker")
    found = []
    for name, before in base.items():
        if not isinstance(before, int | float):
            continue
        allowed = tolerance if tolerance is not None else TOLERANCE if name in STEADY else TOLERANCE_OF_OTHERS
        judged = is_ratio(name) and (same_broker or not name.startswith(("worker_", "scale_")))
        found.append(Compared(name, before, new.get(name), _worse(name, before, new, allowed) if judged else None))
    return found


def is_ratio(name: str) -> bool:
    """Return whether a figure is one of a run's ratios, which are judged."""
    return "_vs_" in name or name.startswith(_LOWER_IS_BETTER)


def _worse(name: str, before: float, new: dict[str, Any], allowed: float) -> bool:
    now = new.get(name)
    if now is None:  # a figure that is gone is worse than any
        return True
    if name.startswith(_LOWER_IS_BETTER):
        return bool(now > before / (1 - allowed))
    return bool(now < before * (1 - allowed))


def better(name: str, one: float, other: float) -> float:
    """Return the better of two values of a figure."""
    return (min if name.startswith(_LOWER_IS_BETTER) else max)(one, other)


def measured_again(
    base: dict[str, Any], measure: Callable[[], dict[str, Any]], tolerance: float | None = None
) -> dict[str, Any]:
    """Return the best of what was measured, again while something is worse than the stored run: three times at most.

    Args:
        base: The stored run.
        measure: Measures; called with nothing.
        tolerance: As in :func:`compare`.
    """
    best = measure()
    # On another machine nothing is judged for good, and once is enough to say what differs.
    for _ in range(TRIES - 1 if best.get("machine") == base.get("machine") else 0):
        worse = [one.name for one in compare(base, best, tolerance) if one.worse and one.name in best]
        if not worse:
            break
        print(f"Worse than the stored run, so measured again: {', '.join(worse)}", flush=True)
        again = measure()
        best |= {name: better(name, best[name], again[name]) for name in worse}
    return best


def main() -> None:
    """Print the comparison, and one line of JSON; the exit code is 1 where a ratio is worse on the same machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("base", type=Path, help="a stored run")
    parser.add_argument("new", type=Path, nargs="?", help="the run to be judged")
    parser.add_argument("--short", action="store_true", help="measure the steady ratios here, and judge these")
    parser.add_argument("--tolerance", type=float, help="share by which any ratio may be worse")
    options = parser.parse_args()
    if options.short == (options.new is not None):
        parser.error("expected a run to be judged, or --short")
    base = _read(options.base)
    if options.short:
        base = {name: value for name, value in base.items() if name in (*STEADY, "machine", "broker")}
        new = measured_again(base, _measured, options.tolerance) | {"broker": base.get("broker")}
    else:
        new = _read(options.new)
    _tell(base, new, options.tolerance)


def _tell(base: dict[str, Any], new: dict[str, Any], tolerance: float | None) -> None:
    same = base.get("machine") == new.get("machine")
    if not same:
        print(f"The stored run is of another machine ({base.get('machine')}; this is {new.get('machine')}).")
    if base.get("broker") != new.get("broker"):
        print(f"The brokers differ ({base.get('broker')}, {new.get('broker')}): the workers' ratios are not judged.")
    compared = compare(base, new, tolerance)
    for name, before, now, worse in compared:
        verdict = {None: "not judged", True: "WORSE", False: "ok"}[worse]
        print(f"{name:<40}{before:>12.3f}{'gone' if now is None else f'{now:.3f}':>12}  {verdict}")
    found = [one.name for one in compared if one.worse]
    if found and not same:
        print("Worse, but on another machine: no failure.")
    judged = sum(one.worse is not None for one in compared)
    print(orjson.dumps({"judged": judged, "worse": found, "same_machine": same}).decode())
    sys.exit(bool(found and same))


def _measured() -> dict[str, Any]:
    """Measure in a process of its own, as every time."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.short"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = orjson.loads(done.stdout.splitlines()[-1])
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(path.read_text(encoding="utf-8").rstrip().rpartition("\n")[2])
    except (OSError, orjson.JSONDecodeError) as error:
        sys.exit(f"{path}: the last line is no JSON object as `make bench` prints it ({error})")
    if not isinstance(found, dict):
        sys.exit(f"{path}: the last line is no JSON object as `make bench` prints it")
    return found


if __name__ == "__main__":
    main()
