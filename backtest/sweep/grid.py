"""Which settings are tried."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Annotated, Final, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field

from whirr import options
from whirr.options import option
from whirr.settings import Number


class RuleSetting(NamedTuple):
    """Numbers of the alert rule; ``factor`` is what each machine's alert threshold is multiplied by."""

    factor: float
    k: int
    n: int
    m: int
    hysteresis: float


DEFAULT: Final = RuleSetting(1.0, 3, 5, 5, 0.9)
_PANEL: Final = "What is tried"


def _pair_of(text: str) -> tuple[int, int]:
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal()):
        raise ValueError("expected k/n such as 3/5")
    return _k_of_n((int(k), int(n)))


def _k_of_n(pair: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= pair[0] <= pair[1] <= 64:
        raise ValueError("expected 1 <= k <= n <= 64")
    return pair


@dataclass(frozen=True, slots=True)
class Grid:
    """The values whose combinations are tried.

    Raises:
        SettingsError: One is out of range.
    """

    factors: Annotated[
        tuple[Annotated[Number, Field(gt=0)], ...],
        option("multiple of the alert threshold; may be repeated", _PANEL, name="factor", repeated=True),
    ] = tuple(np.round(np.geomspace(0.25, 4.0, 25), 4).tolist())
    k_of_n: Annotated[
        tuple[Annotated[tuple[int, int], AfterValidator(_k_of_n)], ...],
        option("such as 3/5, n at most 64; may be repeated", _PANEL, repeated=True, parse=_pair_of),
    ] = ((1, 1), (2, 3), (3, 5), (4, 5), (5, 10), (8, 10), (10, 20))
    m: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1000)], ...],
        option("frames in a row that close; may be repeated", _PANEL, repeated=True),
    ] = (3, 5, 10)
    hystereses: Annotated[
        tuple[Annotated[Number, Field(gt=0, le=1)], ...],
        option(
            "closing threshold as a share of the alert threshold; may be repeated",
            _PANEL,
            name="hysteresis",
            repeated=True,
        ),
    ] = (0.8, 0.9)

    def __post_init__(self) -> None:
        options.check(self)

    def __len__(self) -> int:
        return len(self.factors) * len(self.k_of_n) * len(self.m) * len(self.hystereses)

    def of(self, factor: float) -> list[RuleSetting]:
        """Return the settings of one factor."""
        rest = product(self.k_of_n, self.m, self.hystereses)
        return [RuleSetting(factor, k, n, m, hysteresis) for (k, n), m, hysteresis in rest]
