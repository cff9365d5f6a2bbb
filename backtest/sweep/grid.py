"""Which settings are tried."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

import numpy as np

from schemas.errors import SettingsError


class RuleSetting(NamedTuple):
    """Numbers of the alert rule; ``factor`` is what each machine's alert threshold is multiplied by."""

    factor: float
    k: int
    n: int
    m: int
    hysteresis: float


_ABOVE_0: Final = math.ulp(0.0)
DEFAULT: Final = RuleSetting(1.0, 3, 5, 5, 0.9)


@dataclass(frozen=True, slots=True)
class Grid:
    """The values whose combinations are tried.

    Attributes:
        factors: Multiples of the alert threshold, ascending.
        k_of_n: Pairs.
        m: Frames in a row.
        hystereses: Shares of the threshold.
    """

    factors: tuple[float, ...] = tuple(np.round(np.geomspace(0.25, 4.0, 25), 4).tolist())
    k_of_n: tuple[tuple[int, int], ...] = ((1, 1), (2, 3), (3, 5), (4, 5), (5, 10), (8, 10), (10, 20))
    m: tuple[int, ...] = (3, 5, 10)
    hystereses: tuple[float, ...] = (0.8, 0.9)

    def __post_init__(self) -> None:
        for k, n in self.k_of_n:
            if not 1 <= k <= n <= 64:
                raise SettingsError(f"--k-of-n is '{k}/{n}'; expected 1 <= k <= n <= 64")
        for name, values, least, most, expected in (
            ("--factor", self.factors, _ABOVE_0, sys.float_info.max, "above 0"),
            ("--hysteresis", self.hystereses, _ABOVE_0, 1.0, "above 0, at most 1"),
            ("-m", self.m, 1, 1000, "1 to 1,000"),
        ):
            for value in values:
                if not least <= value <= most:
                    raise SettingsError(f"{name} is {value:g}; expected {expected}")

    def __len__(self) -> int:
        return len(self.factors) * len(self.k_of_n) * len(self.m) * len(self.hystereses)

    def of(self, factor: float) -> list[RuleSetting]:
        """Return the settings of one factor."""
        rest = product(self.k_of_n, self.m, self.hystereses)
        return [RuleSetting(factor, k, n, m, hysteresis) for (k, n), m, hysteresis in rest]
