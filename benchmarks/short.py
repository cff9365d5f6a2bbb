"""The ratios that are steady: each of processor time, measured in turns, without a broker; in some minutes.

Two runs on one quiet machine differ by some hundredths, so that a tenth tells; what is worse is measured again.
``python -m benchmarks.short`` prints them as one line of JSON.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import orjson

from benchmarks import frame_profile, logmel, sweep
from benchmarks.compare import STEADY
from benchmarks.environment import machine

_PROCESSES: Final = 3


def measure() -> dict[str, Any]:
    """Return the figures, and the machine that they are of."""
    found = logmel.measure(_PROCESSES) | sweep.measure() | frame_profile.costs(frame_profile.measure())
    return {"machine": machine(), **{name: round(found[name], 3) for name in STEADY}}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print(orjson.dumps(measure()).decode())
