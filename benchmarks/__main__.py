"""``make bench``: every measurement, and one JSON line at the end. Each ratio comes from one run."""

from __future__ import annotations

import orjson

from benchmarks import frame_profile, latency, learning, logmel, many_models, memory, replay, sweep, throughput
from benchmarks.environment import machine, prepared

FIGURES = (
    "logmel_vs_librosa",
    "logmel_vs_torch",
    "frame_cost_ffts_default",
    "frame_cost_ffts_conv_ae",
    "worker_vs_inprocess",
    "worker_vs_aiokafka",
    "worker_vs_quixstreams",
    "worker_with_shadow_vs_without",
    "worker_with_learning_vs_without",
    "learning_scores_per_second",
    "many_models_vs_one",
    "many_models_rss_mb",
    "many_models_vs_one_conv_ae",
    "many_models_rss_mb_conv_ae",
    "worker_vs_inprocess_default",
    "worker_vs_aiokafka_default",
    "frames_per_second",
    "frames_per_second_default",
    "latency_ms_p50",
    "latency_ms_p99",
    "latency_conv_ae_ms_p50",
    "latency_conv_ae_ms_p99",
    "latency_half_ms_p50",
    "latency_half_ms_p99",
    "rss_growth_mb",
    "replay_vs_plain_one_core",
    "replay_vs_own_logmel_one_core",
    "replay_default_vs_own_logmel_one_core",
    "replay_realtime_one_core",
    "replay_realtime_all_cores",
    "replay_rss_growth_mb",
    "sweep_settings_per_second",
    "sweep_vs_sort",
)


def main() -> None:
    """Print each measurement's table, then one JSON object with the figures."""
    figures = logmel.report() | frame_profile.report(frame_profile.measure())
    with prepared() as bench:
        figures |= throughput.measure(bench)
        figures |= latency.measure(bench, figures)
        figures |= memory.measure(bench)
        figures |= replay.measure(bench.calm)
    figures |= many_models.report(many_models.measure())
    figures["learning_scores_per_second"] = learning.scores_per_second()
    figures |= sweep.measure()
    figures = {name: round(value, 3) for name, value in figures.items()}
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:>10.3f}")
    told = {"machine": machine(), "broker": bench.broker}
    print(orjson.dumps(told | {name: figures[name] for name in FIGURES}).decode())


if __name__ == "__main__":
    main()
