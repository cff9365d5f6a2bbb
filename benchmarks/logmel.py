"""Log-mel against librosa and torch: a batch of 32 one-second windows, one thread each.

All compute the same (no mean removed, which librosa and torch don't do), take turns in one run, and are timed by the
processor time they use, so that whatever else the machine does hits them little and alike. Where a process has its
memory makes torch up to 1.7 times as slow for as long as it lives, so the run is made in several processes; the figures
are medians over them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from schemas.model_metadata import FeatureConfig
from stream_app.pipeline.features import Features

WINDOWS = 32
PROCESSES = 5
REPETITIONS = 12
CALLS = 5  # in a row: the first of a turn pays for what the contender before it left in memory and caches
SEED = 7

Contender = Callable[[], Any]


def measure(processes: int = PROCESSES) -> dict[str, float]:
    """Return the ratios and the microseconds per window, medians over so many fresh processes.

    Returns:
        ``logmel_vs_librosa`` and ``logmel_vs_torch`` (their time over Whirr's), and ``…_us``, per window:
        ``logmel_us`` in a batch, ``logmel_single_us`` one window at a time, ``logmel_statistics_us`` one at a time
        with the 13 statistics from the same spectrum, ``librosa_us``, ``torch_us``.
    """
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.logmel", "--once"]
    runs = [orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(processes)]
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def measure_here(repetitions: int = REPETITIONS) -> dict[str, float]:
    """Return the same, measured in this process."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        return _measure(repetitions)


def _measure(repetitions: int) -> dict[str, float]:
    config = FeatureConfig(remove_dc=False)
    batch = np.random.default_rng(SEED).normal(0, 0.1, (WINDOWS, config.sample_rate_hz)).astype(np.float32)
    contenders = {**_ours(config, batch), "librosa_us": _librosa(config, batch), "torch_us": _torch(config, batch)}
    _check_agreement(contenders)
    times_s: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, contender in contenders.items():
            for _ in range(CALLS):
                start_s = time.process_time()
                contender()
                times_s[name].append(time.process_time() - start_s)
    result = {name: float(np.median(taken_s)) * 1e6 / WINDOWS for name, taken_s in times_s.items()}
    for rival in ("librosa", "torch"):
        result[f"logmel_vs_{rival}"] = result[f"{rival}_us"] / result["logmel_us"]
    return result


def _ours(config: FeatureConfig, batch: NDArray[np.float32]) -> dict[str, Contender]:
    features = Features(config)

    def with_statistics(window: NDArray[np.float32]) -> NDArray[np.float64]:
        return features.log_mel_and_statistics(window[np.newaxis])[1]

    return {
        "logmel_us": lambda: features.log_mel(batch),
        "logmel_single_us": lambda: [features.log_mel(window[np.newaxis]) for window in batch],
        "logmel_statistics_us": lambda: [with_statistics(window[np.newaxis]) for window in batch],
    }


def _librosa(config: FeatureConfig, batch: NDArray[np.float32]) -> Contender:
    """Return librosa's melspectrogram of the whole batch in one call, and the log of it."""
    import librosa

    def contender() -> NDArray[np.float32]:
        energies = librosa.feature.melspectrogram(
            y=batch,
            sr=config.sample_rate_hz,
            n_fft=config.n_fft,
            hop_length=config.hop,
            n_mels=config.bands,
            center=False,
        )
        return np.asarray(np.log(np.maximum(energies, np.float32(config.floor))))

    return contender


def _torch(config: FeatureConfig, batch: NDArray[np.float32]) -> Contender:
    """Return torch's stft of the whole batch and a dense product with the mel matrix, as torchaudio does it."""
    import torch
    from librosa.filters import mel

    torch.set_num_threads(1)
    samples = torch.from_numpy(batch)
    window = torch.hann_window(config.n_fft)
    filters = mel(sr=config.sample_rate_hz, n_fft=config.n_fft, n_mels=config.bands)
    weights = torch.from_numpy(filters.T.copy())

    def contender() -> Any:
        transformed = torch.stft(samples, config.n_fft, config.hop, window=window, center=False, return_complex=True)
        power = transformed.abs().pow(2.0)
        energies = torch.matmul(power.transpose(-1, -2), weights).transpose(-1, -2)
        return torch.log(torch.clamp(energies, min=config.floor))

    return contender


def _check_agreement(contenders: dict[str, Contender]) -> None:
    """Refuse to time contenders that don't compute the same; this is their warm-up too."""
    ours, *others = (np.asarray(contenders[name]()) for name in ("logmel_us", "librosa_us", "torch_us"))
    for other in others:
        np.testing.assert_allclose(ours, other, atol=1e-3)
    for name in ("logmel_single_us", "logmel_statistics_us"):
        contenders[name]()


def report() -> dict[str, float]:
    """Measure, print a table, and return the figures."""
    from rich.console import Console
    from rich.table import Table

    figures = measure()
    table = Table("", "µs per window", "against log-mel", title=f"{WINDOWS} windows of 1 s at 16 kHz, one thread")
    labels = {
        "logmel_us": "log-mel, a batch",
        "logmel_single_us": "log-mel, one window at a time",
        "logmel_statistics_us": "log-mel and 13 statistics, one at a time",
        "librosa_us": "librosa melspectrogram, a batch",
        "torch_us": "torch stft and matmul, a batch",
    }
    for name, label in labels.items():
        table.add_row(label, f"{figures[name]:.1f}", f"{figures[name] / figures['logmel_us']:.2f}")
    Console().print(table)
    return figures


def main() -> None:
    """Print the table and, as the last line, one JSON object; with ``--once`` only that, of this process."""
    print(orjson.dumps(measure_here() if "--once" in sys.argv else report()).decode())


if __name__ == "__main__":
    main()
