"""The backtest: the live system minus Kafka, in process. What it yields is what the worker would send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from schemas.alert import Alert
from schemas.dead_letter import DeadLetter
from schemas.frame import FrameRecord
from schemas.score import Score
from schemas.verdict import Verdict
from stream_app.pipeline.engine import Engine
from stream_app.pipeline.lineup import Lineup
from stream_app.pipeline.model import Model
from stream_app.pipeline.router import Router
from stream_app.pipeline.state import StreamState
from stream_app.pipeline.verdict_timeline import Verdicts
from whirr.maintenance import Maintenance, MaintenanceWindow
from whirr.settings import Route


def _wall_clock_us() -> int:
    return time.time_ns() // 1000


def backtest(
    frames: Iterable[FrameRecord],
    models: Mapping[str, Model | Lineup],
    routes: Sequence[Route],
    *,
    maintenance: Sequence[MaintenanceWindow] = (),
    verdicts: Iterable[Verdict] = (),
    batch_frames: int = 64,
    now_us: Callable[[], int] = _wall_clock_us,
) -> Iterator[Score | Alert | DeadLetter]:
    """Yield, for each frame in order, its score, a challenger's in shadow, and its alerts; or its dead letter.

    Frames of one stream are taken in the order given, as the worker takes them in the order of their offsets; sort
    each stream by recording time for what orderly gateways would have led to. Silence takes a clock, so it is left out.

    Args:
        frames: Any number; at most ``batch_frames`` are held at once.
        models: By ``route.model``; a lineup has the champions by recording time, as a worker has them of a registered
            model, and the challenger.
        routes: First match wins.
        maintenance: Frames recorded in these windows are idle; the first that matches counts.
        verdicts: Of each incident the newest one, with what was said before.
        batch_frames: Frames computed at once; changes the speed, never an answer.
        now_us: Wall clock for ``scored_at``, microseconds since the epoch.

    Raises:
        SettingsError: A route names a model that ``models`` lacks.
    """
    engine = Engine(Router.from_routes(routes, models), Maintenance(maintenance), Verdicts(verdicts))
    states: dict[tuple[str, str], StreamState] = {}
    remaining = iter(frames)
    while batch := list(islice(remaining, batch_frames)):
        for answer in engine.compute(batch):
            if isinstance(answer, DeadLetter):
                yield answer
                continue
            outcome = engine.advance(answer, states.get(answer.frame.stream), now_us())
            if outcome.state is not None:
                states[answer.frame.stream] = outcome.state
            if outcome.dead_letter is not None:
                yield outcome.dead_letter
            if outcome.score is not None:
                yield outcome.score
            if outcome.shadow is not None:
                yield outcome.shadow
            yield from outcome.alerts
