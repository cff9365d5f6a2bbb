"""Which models a route has: each champion with the recording time from which on it judges, and a challenger."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from schemas.times import format_rfc3339
from stream_app.pipeline.model import Model


class Champion(NamedTuple):
    """A model, and from which recording time on frames are judged by it (microseconds since the epoch)."""

    from_us: int
    model: Model


@dataclass(frozen=True, slots=True)
class Lineup:
    """The models that a route's ``model`` stands for.

    A frame is judged by the champion of the time at which it was recorded, whenever it arrives: so a backtest with the
    same lineup gives the same answers as the worker that saw a promotion.

    Attributes:
        champions: At least one, oldest first; frames from before the oldest's beginning are the oldest's too.
        challenger: Scores the same frames in shadow; None for none.

    Raises:
        ValueError: There is no champion, or they are not in order of time.
    """

    champions: tuple[Champion, ...]
    challenger: Model | None = None

    def __post_init__(self) -> None:
        if not self.champions:
            raise ValueError("a lineup without a champion; expected at least one")
        for older, newer in pairwise(self.champions):
            if newer.from_us <= older.from_us:
                raise ValueError(
                    f"a champion from {format_rfc3339(newer.from_us)} on comes after one from "
                    f"{format_rfc3339(older.from_us)} on; expected the oldest first"
                )
