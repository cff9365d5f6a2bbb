"""The README's table of figures, of the stored run of ``make bench``; ``make bench-store`` writes it.

``python -m benchmarks.readme_table`` writes it anew, from ``benchmarks/baseline.json``.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

ROOT: Final = Path(__file__).parents[1]
_MARKED: Final = re.compile(r"(<!-- make bench -->\n).*?(\n<!-- until here -->)", re.DOTALL)
# What is measured, and how it is told. A row is there if the stored run has its figures.
ROWS: Final = (
    (
        "log-mel against librosa's and torch's, a batch of 32 windows of 1 s, one thread",
        "{logmel_vs_librosa:.1f} and {logmel_vs_torch:.1f} times as fast",
    ),
    (
        (
            "a frame of 1 s at 16 kHz from its record to its score, 13 statistics included, in plain FFTs of its "
            "windows (`scipy.fft.rfft`): default detector, `conv_ae`"
        ),
        "{frame_cost_ffts_default:.1f}, {frame_cost_ffts_conv_ae:.1f}",
    ),
    (
        "a worker draining a topic against the same computation without Kafka, with `conv_ae`",
        "{worker_vs_inprocess:.2f}",
    ),
    (
        "a worker with `conv_ae` against a bare aiokafka loop, and against quixstreams",
        "{worker_vs_aiokafka:.2f} and {worker_vs_quixstreams:.2f} times as fast",
    ),
    (
        "a worker with the default detector: against the computation, and the aiokafka loop",
        "{worker_vs_inprocess_default:.2f}, {worker_vs_aiokafka_default:.2f}",
    ),
    (
        "a worker with a challenger of the same kind in shadow, and with a thousand verdicts: what is left of its rate",
        "{worker_with_shadow_vs_without:.2f}, {worker_with_learning_vs_without:.2f}",
    ),
    ("2,000 machines with a model each against one model for all: frames a second", "{many_models_vs_one:.2f}"),
    ("frames per second, one worker, `conv_ae`", "{frames_per_second:,.0f}"),
    (
        (
            "from a frame's append to its alert's, default detector, at a quarter of what the worker can do: "
            "median, 99th percentile"
        ),
        "{latency_ms_p50:.0f} ms, {latency_ms_p99:.0f} ms",
    ),
    (
        "from a frame's append to its alert's, `conv_ae`, at a quarter",
        "{latency_conv_ae_ms_p50:.0f} ms, {latency_conv_ae_ms_p99:.0f} ms",
    ),
    (
        "from a frame's append to its alert's, `conv_ae`, at half, which leaves two cores no room",
        "{latency_half_ms_p50:.0f} ms, {latency_half_ms_p99:.0f} ms",
    ),
    (
        (
            "growth of the worker's memory over 100,000 frames, once its read-ahead is full: its peak over the last "
            "40,000 frames against the 40,000 before"
        ),
        "{rss_growth_mb:.1f} MB",
    ),
    (
        (
            "a replay of recordings (statistics, identities and alert rule included) on one core, against a plain loop "
            "of soundfile, librosa's log-mel and onnxruntime"
        ),
        "{replay_vs_plain_one_core:.2f} times as fast",
    ),
    ("a replay with `conv_ae` against that loop with Whirr's own log-mel", "{replay_vs_own_logmel_one_core:.2f}"),
    (
        "a replay with the default detector against that loop with Whirr's own log-mel",
        "{replay_default_vs_own_logmel_one_core:.2f}",
    ),
    (
        "seconds of signal a second, one core and two",
        "{replay_realtime_one_core:,.0f}, {replay_realtime_all_cores:,.0f}",
    ),
    (
        "growth of a replay's memory over the last four fifths of 100,000 frames",
        "{replay_rss_growth_mb:.1f} MB",
    ),
    ("settings of the alert rule tried a second on 100,000 scores", "{sweep_settings_per_second:,.0f}"),
)


def table(figures: Mapping[str, Any]) -> str:
    """Return the sentence and the table that tell a run's figures."""
    broker = figures.get("broker", "a broker")
    lines = [
        f"{_where(figures)}, which the broker ({broker}), the gateway and the worker share, it printed:",
        "",
        "| what | figure |",
        "|---|---|",
    ]
    for what, told in ROWS:
        if all(name in figures for _, name, _, _ in string.Formatter().parse(told) if name):
            lines.append(f"| {what} | {told.format(**figures)} |")
    return "\n".join(lines)


def _where(figures: Mapping[str, Any]) -> str:
    """Return on what a run was made; before a run said so, the stored one was version 0.2.0's on two cores."""
    machine = figures.get("machine")
    return f"On {machine}" if machine else "Of version 0.2.0, on two cores"


def main() -> None:
    """Write the table into the README."""
    page = ROOT / "README.md"
    figures = orjson.loads((ROOT / "benchmarks" / "baseline.json").read_bytes())
    page.write_text(_MARKED.sub(lambda found: found[1] + table(figures) + found[2], page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
