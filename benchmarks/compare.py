"""``make bench-compare``: the ratios of a run of ``make bench`` beside those of a stored one.

Only ratios are judged (``…_vs_…``, each taken within one run): the rest is a matter of the machine and is shown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import orjson

TOLERANCE = 0.25  # two runs on one shared machine differ by a tenth and more


class Compared(NamedTuple):
    """A figure of two runs; ``worse`` is None where it is not judged."""

    name: str
    base: float
    new: float | None
    worse: bool | None


def compare(base: dict[str, Any], new: dict[str, Any], tolerance: float = TOLERANCE) -> list[Compared]:
    """Return every figure of the stored run beside the new one.

    Args:
        base: The stored run, as ``make bench`` prints it in its last line.
        new: The run to be judged.
        tolerance: By which share a ratio may be lower; higher is better for all of them.
    """
    same_broker = base.get("broker") == new.get("broker")
    found = []
    for name, before in base.items():
        if isinstance(before, str):
            continue
        now = new.get(name)
        judged = "_vs_" in name and (same_broker or not name.startswith("worker_"))
        # A figure that is gone is worse than any.
        found.append(Compared(name, before, now, (now is None or now < before * (1 - tolerance)) if judged else None))
    return found


def main() -> None:
    """Print the comparison, and one line of JSON; the exit code is 1 where a ratio is worse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path, help="a stored run")
    parser.add_argument("new", type=Path, help="the run to be judged")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="share by which a ratio may be lower")
    options = parser.parse_args()
    base, new = _read(options.base), _read(options.new)
    compared = compare(base, new, options.tolerance)
    if base.get("broker") != new.get("broker"):
        print(f"The brokers differ ({base.get('broker')}, {new.get('broker')}): the worker's ratios are not judged.")
    for name, before, now, worse in compared:
        verdict = {None: "not judged", True: "WORSE", False: "ok"}[worse]
        print(f"{name:<32}{before:>12.3f}{'gone' if now is None else f'{now:.3f}':>12}  {verdict}")
    worse = [one.name for one in compared if one.worse]
    print(orjson.dumps({"judged": sum(one.worse is not None for one in compared), "worse": worse}).decode())
    sys.exit(bool(worse))


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
