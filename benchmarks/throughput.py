"""How fast a worker drains a filled topic, against the same computation in process, bare aiokafka and quixstreams.

One-second 16 kHz frames of a simulated machine, the seed's autoencoder and the default detector, scores and states
written, one worker. All drain the same topic, one after the other in each round; a ratio is the median over the
rounds. Frames are counted between a tenth and nine tenths, so starting up and running dry don't count. A worker with a
challenger of the same kind in shadow is compared with one whose registered champion stands alone, and so is one that
hears verdicts and knows maintenance windows (:mod:`benchmarks.learning`). ``WHIRR_BENCH_FRAMES`` and
``WHIRR_BENCH_ROUNDS`` set how much.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.default_model import train_default, unheard
from benchmarks.environment import DEADLINE_S, Bench, Worker, fill, seed_model, settings_for
from benchmarks.learning import settings_of_a_learning_worker
from stream_app.worker.topic_setup import ensure_topics
from trainer.mlflow_run import MlflowRun
from trainer.promotion import FalseAlarmCount
from trainer.registration import register_model
from whirr.mlflow_client import TrackingServer, quiet

FRAMES = int(os.environ.get("WHIRR_BENCH_FRAMES", "6000"))
ROUNDS = int(os.environ.get("WHIRR_BENCH_ROUNDS", "3"))
REGISTERED = "models:/conv-ae@champion"
RIVALS = ("inprocess", "aiokafka", "quixstreams")
RIVALS_OF_DEFAULT = RIVALS[:2]


def measure(bench: Bench) -> dict[str, float]:
    """Return the figures.

    Returns:
        ``frames_per_second`` of the worker, and of each rival its rate (``…_per_second``) and the worker's rate over
        it (``worker_vs_…``); the same with the default detector (``…_default``);
        ``worker_with_shadow_vs_without`` and ``worker_with_learning_vs_without``, what is left of the rate with a
        challenger, and with verdicts and maintenance windows.
    """
    bench, default = bench._replace(values=unheard()), train_default(bench.folder)
    asyncio.run(fill(bench, bench.settings.frames_topic, FRAMES))
    for topic in ("rival-scores", "rival-states"):
        asyncio.run(ensure_topics(settings_for(bench, topic)))
    registry = _registry(bench)
    arms = {
        "alone": registry | {"MAX_SHADOW_MODELS": "0"},
        "shadow": registry | {"MAX_SHADOW_MODELS": "1"},
        "learning": registry | {"MAX_SHADOW_MODELS": "0"} | asyncio.run(settings_of_a_learning_worker(bench)),
    }
    rates = [_round(bench, default, number, arms) for number in range(1, ROUNDS + 1)]
    figures = {}
    for of, rivals in (("", RIVALS), ("_default", RIVALS_OF_DEFAULT)):
        figures[f"frames_per_second{of}"] = statistics.median(rate[f"worker{of}"] for rate in rates)
        for rival in rivals:
            figures[f"{rival}_per_second{of}"] = statistics.median(rate[rival + of] for rate in rates)
            figures[f"worker_vs_{rival}{of}"] = statistics.median(
                rate[f"worker{of}"] / rate[rival + of] for rate in rates
            )
    for arm in ("shadow", "learning"):
        figures[f"worker_with_{arm}_vs_without"] = statistics.median(rate[arm] / rate["alone"] for rate in rates)
    return figures


def _round(bench: Bench, default: Path, number: int, arms: dict[str, dict[str, str]]) -> dict[str, float]:
    rates = {}
    for of, model, rivals in (("", bench.calm, RIVALS), ("_default", default, RIVALS_OF_DEFAULT)):
        rates["inprocess" + of] = _rival(bench, "inprocess", model)
        rates["worker" + of] = _worker(bench, model, f"bench{of.replace('_', '-')}-{number}", {})
        rates |= {name + of: _rival(bench, name, model) for name in rivals[1:]}
    rates |= {name: _worker(bench, REGISTERED, f"bench-{name}-{number}", more) for name, more in arms.items()}
    print(f"round {number}: " + ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items()), flush=True)
    return rates


def _worker(bench: Bench, model: Path | str, worker_id: str, more: dict[str, str]) -> float:
    with Worker(bench, model, worker_id, bench.settings.frames_topic, more=more) as worker:
        began_s, first = worker.wait_for(FRAMES / 10)
        ended_s, last = worker.wait_for(FRAMES * 9 / 10)
        metrics = worker.metrics()
    wanted = metrics["scored"] if more.get("MAX_SHADOW_MODELS") == "1" else 0.0
    if abs(metrics["whirr_shadow_scores_total"] - wanted) > wanted / 10:
        raise RuntimeError(f"{metrics['whirr_shadow_scores_total']:.0f} scores in shadow; expected {wanted:.0f}")
    return (last - first) / (ended_s - began_s)


def _registry(bench: Bench) -> dict[str, str]:
    """Register the model twice, as champion and as challenger; return the settings that say where."""
    settings = bench.settings.model_copy(
        update={"mlflow_tracking_uri": f"sqlite:///{bench.folder / 'mlflow.db'}", "mlflow_experiment": "bench"}
    )
    for version in ("champion", "challenger"):
        run = MlflowRun(settings, "conv-ae", datetime.now(UTC))
        file = seed_model(bench.folder / version, 1e6, version=version, run_id=run.run_id)
        run.finish([])
        with quiet(), TrackingServer(settings).client() as client:
            register_model(client, file, FalseAlarmCount(100, 0))
    return {"MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri}


def _rival(bench: Bench, name: str, model: Path) -> float:
    settings = bench.settings
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.rivals", name]
    ended = subprocess.run(
        [*program, str(model), settings.bootstrap, settings.frames_topic, str(FRAMES)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    return float(json.loads(ended.stdout.splitlines()[-1])["frames_per_second"])
