"""``make profile``: where a frame's time goes, stage by stage, in microseconds, shares and FFTs.

The unit is the plain ``scipy.fft.rfft`` of the same windows, measured in turns with the frames: what no log-mel can do
without. Frames of one second at 16 kHz, 16-bit WAV, batches of 64, one thread, from the record to its score; then what
the event loop does with each: the state, the answers and their bytes. Kafka's and Faust's own time is not in it:
``make bench`` compares the whole worker.

A stage's time is its own: what it calls that is a stage itself is taken off. What is left of the batch is ``rest``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import orjson
import scipy.fft

from benchmarks import default_model
from benchmarks.environment import MACHINES, NOW_US, seed_model
from schemas import FrameRecord
from stream_app.pipeline import Engine, Model, Router, StreamState, analyse
from stream_app.pipeline.features import Features
from stream_app.worker.messages import Encoder
from whirr.settings import Route

BATCH: Final = 64
BATCHES: Final = 12
ROUNDS: Final = 7
FFT_TIMES: Final = 9
REST: Final = "rest"
STAGES: Final[Mapping[str, Sequence[tuple[Any, str]]]] = {
    "envelope": [(analyse, "parse_frame")],
    "decoding": [(analyse, "decode"), (analyse, "resample")],
    "level and sensor": [(analyse, "level_dbfs"), (analyse, "sensor_fault"), (analyse, "unfamiliar")],
    "log-mel, 13 statistics": [(Features, "log_mel_and_statistics"), (analyse, "windows")],
    "model": [(Model, "score")],
}
LOOP_STAGES: Final = ("state and decision", "score as bytes", "state as bytes")


class Clock:
    """Adds up how long each stage takes by itself."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._inner: list[float] = []

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does what ``call`` does, and counts its time as the stage's."""

        @wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.perf_counter() - began
                self.seconds[stage] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return counted


@contextmanager
def _watched() -> Iterator[Clock]:
    clock = Clock()
    with ExitStack() as stack:
        for stage, calls in STAGES.items():
            for owner, name in calls:
                stack.enter_context(patch.object(owner, name, clock.timed(stage, getattr(owner, name))))
        yield clock


def measure() -> dict[str, dict[str, float]]:
    """Return by detector what each stage takes of a frame, in microseconds; medians over rounds.

    Besides the stages: ``fft``, the unit, and ``total``, of the whole computation without the clocks in the stages,
    both of processor time; ``ffts``, the one in the other.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory(prefix="whirr-profile-") as text, threadpool_limits(1):
        folder = Path(text)
        values = default_model.frames(2 * default_model.TRAIN_S)[1::2]
        models = {"default": default_model.train_default(folder), "conv_ae": seed_model(folder, 1e6)}
        records = [
            default_model.record(
                f"pump-{number % MACHINES}", values[number % len(values)], NOW_US - 3_600_000_000 + number * 1_000_000
            )
            for number in range(BATCH * BATCHES)
        ]
        return {name: _profile(file, records) for name, file in models.items()}


def _profile(file: Path, records: Sequence[FrameRecord]) -> dict[str, float]:
    engine = Engine(Router.from_routes([Route(match="*", model="model")], {"model": Model.load(file)}))
    batches = [records[at : at + BATCH] for at in range(0, len(records), BATCH)]
    for batch in batches[:2]:
        engine.compute(batch)
    rounds: list[dict[str, float]] = []
    for _ in range(ROUNDS):
        total_us = _per_frame_us(lambda: [engine.compute(one) for one in batches], records, time.process_time)
        found = {"fft": _fft_us(), "total": total_us}
        found["ffts"] = found["total"] / found["fft"]
        with _watched() as clock:
            watched = _per_frame_us(lambda: [engine.compute(one) for one in batches], records)
        found |= {stage: seconds * 1e6 / len(records) for stage, seconds in clock.seconds.items()}
        found[REST] = max(watched - sum(found[stage] for stage in STAGES), 0.0)
        rounds.append(found | _loop(engine, batches))
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def _per_frame_us(
    call: Callable[[], object], records: Sequence[FrameRecord], clock: Callable[[], float] = time.perf_counter
) -> float:
    began = clock()
    call()
    return (clock() - began) * 1e6 / len(records)


def _fft_us() -> float:
    """Return what the spectra of one frame take, and nothing else."""
    windows = np.random.default_rng(0).normal(0, 0.1, (BATCH * 30, 1024)).astype(np.float32)
    scipy.fft.rfft(windows[:30])
    taken = []
    for _ in range(FFT_TIMES):
        began = time.process_time()
        for at in range(0, len(windows), 30):
            scipy.fft.rfft(windows[at : at + 30])
        taken.append((time.process_time() - began) * 1e6 / BATCH)
    return statistics.median(taken)


def _loop(engine: Engine, batches: Sequence[Sequence[FrameRecord]]) -> dict[str, float]:
    encoder = Encoder(alerts="a", scores="s", dead_letters="d", changelog="c", name="profile")
    states: dict[tuple[str, str], StreamState] = {}
    seconds = dict.fromkeys(LOOP_STAGES, 0.0)
    frames = 0
    for batch in batches:
        for computed in engine.compute(batch):
            assert isinstance(computed, analyse.Computed), computed
            stream = computed.frame.stream
            moments = [time.perf_counter()]
            outcome = engine.advance(computed, states.get(stream), computed.frame.recorded_us)
            moments.append(time.perf_counter())
            assert outcome.score is not None
            assert outcome.state is not None
            encoder.score(outcome.score)
            moments.append(time.perf_counter())
            encoder.state(0, stream[0].encode(), outcome.state)
            moments.append(time.perf_counter())
            states[stream] = outcome.state
            for stage, took in zip(LOOP_STAGES, np.diff(moments), strict=True):
                seconds[stage] += float(took)
            frames += 1
    return {stage: took * 1e6 / frames for stage, took in seconds.items()}


def report(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Print the tables; return the figures."""
    for name, own in found.items():
        print(f"{name}: {own['total']:.0f} us a frame from record to score, an FFT of its windows {own['fft']:.0f} us")
        print(f"  {'compute process':22} {'us':>7} {'share':>7} {'FFTs':>6}")
        whole = sum(own[stage] for stage in (*STAGES, REST))
        for stage in (*STAGES, REST):
            print(f"  {stage:22} {own[stage]:7.1f} {own[stage] / whole:7.1%} {own[stage] / own['fft']:6.2f}")
        print(f"  {'sum, with the clocks':22} {whole:7.1f} {'':7} {whole / own['fft']:6.2f}")
        print(f"  {'event loop':22} {'us':>7} {'':7} {'FFTs':>6}")
        for stage in LOOP_STAGES:
            print(f"  {stage:22} {own[stage]:7.1f} {'':7} {own[stage] / own['fft']:6.2f}")
    return costs(found)


def costs(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return what a frame costs by each detector, in FFTs of its windows."""
    return {f"frame_cost_ffts_{name}": round(own["ffts"], 2) for name, own in found.items()}


def main() -> None:
    """Print where the time goes, then one JSON object."""
    found = measure()
    figures: dict[str, Any] = dict(report(found))
    for name, own in found.items():
        stages = (*STAGES, REST, *LOOP_STAGES)
        figures[f"stages_ffts_{name}"] = {stage: round(own[stage] / own["fft"], 2) for stage in stages}
    print(orjson.dumps(figures).decode())


if __name__ == "__main__":
    import logging

    logging.disable(logging.WARNING)
    main()
