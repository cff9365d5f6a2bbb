"""How fast a replay is, against the plain loop that anyone would write, and what its memory does over many frames.

The plain loop reads a recording with soundfile, computes log-mel and runs the model with onnxruntime, one frame after
the other: no statistics, no identities, no alert rule, nothing written down, nothing to go on with. It runs twice: with
librosa's log-mel, as people write it, and with Whirr's own, which is the harder one to follow. All hear recordings of
ten seconds, cut into frames of one, each in a process of its own, in turns; a ratio is the median over the rounds.
``WHIRR_BENCH_REPLAY_FILES``, ``WHIRR_BENCH_ROUNDS`` and ``WHIRR_BENCH_REPLAY_FRAMES`` (the memory's frames: files of a
second, of which most are hard links to the same few) set how much.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import soundfile
from numpy.typing import NDArray

from benchmarks.environment import RATE_HZ, seed_model
from schemas.model_metadata import FeatureConfig

FILES = int(os.environ.get("WHIRR_BENCH_REPLAY_FILES", "400"))
FRAMES = int(os.environ.get("WHIRR_BENCH_REPLAY_FRAMES", "100000"))
ROUNDS = int(os.environ.get("WHIRR_BENCH_ROUNDS", "3"))
FILE_S = 10
CORES = len(os.sched_getaffinity(0))
_DISTINCT = 64
_REPEATED = 6


def measure(model: Path) -> dict[str, float]:
    """Return the figures of a model.

    Returns:
        ``replay_realtime_one_core``, ``replay_realtime_all_cores`` and ``replay_plain_realtime``: seconds of signal a
        second (all cores have six times as many recordings); ``replay_vs_plain_one_core`` and
        ``replay_vs_plain_all_cores``: the replay's rate over that of the plain loop, which has one core;
        ``replay_vs_own_logmel_one_core``, over that of the loop with Whirr's log-mel; ``replay_rss_mb``, the most
        memory of a replay of many frames while it scores, and ``replay_rss_growth_mb``, how much of it came over the
        last four fifths of that time.
    """
    with tempfile.TemporaryDirectory(prefix="whirr-bench-replay-") as place:
        folder = Path(place)
        recordings = _recordings(folder / "recordings")
        many = _repeated(recordings, folder / "repeated")
        rounds = [_round(model, recordings, many, folder, number) for number in range(ROUNDS)]
        figures = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        return figures | _memory(model, folder)


def _round(model: Path, recordings: Path, many: Path, folder: Path, number: int) -> dict[str, float]:
    plain, own = (_plain(model, recordings, kind) for kind in ("librosa", "own"))
    one = _replay(model, recordings, folder / f"one-{number}", 1)
    every = _replay(model, many, folder / f"all-{number}", CORES)
    told = (
        f"plain {plain:.0f}, with Whirr's log-mel {own:.0f}, replay {one:.0f} on one core, {every:.0f} on {CORES} cores"
    )
    print(f"round {number + 1}: {told} (times real time)", flush=True)
    return {
        "replay_plain_realtime": plain,
        "replay_realtime_one_core": one,
        "replay_realtime_all_cores": every,
        "replay_vs_plain_one_core": one / plain,
        "replay_vs_plain_all_cores": every / plain,
        "replay_vs_own_logmel_one_core": one / own,
    }


def _recordings(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(FILES):
        path = folder / f"machine-{number % 4}" / f"normal_{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.05, FILE_S * RATE_HZ), RATE_HZ, subtype="PCM_16")
    return folder


def _repeated(recordings: Path, folder: Path) -> Path:
    """Link the recordings several times, so that there is work for processes that take a second to start."""
    for path in sorted(recordings.rglob("*.wav")):
        for number in range(_REPEATED):
            home = folder / path.parent.name
            home.mkdir(parents=True, exist_ok=True)
            os.link(path, home / f"{path.stem}_{number}.wav")
    return folder


def _plain(model: Path, recordings: Path, kind: str) -> float:
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.replay", "--plain"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*program, kind, str(model), str(recordings)], check=True, stdout=subprocess.PIPE, env=one_thread
    )
    return float(orjson.loads(done.stdout)["realtime"])


def plain_loop(kind: str, model_path: Path, recordings: Path) -> dict[str, float]:
    """Score every second of every recording, one after the other; return seconds of signal a second."""
    from stream_app.pipeline import Model, windows

    model = Model.load(model_path)
    log_mel = model.features.log_mel if kind == "own" else _librosa(model.metadata.features)
    log_mel(np.zeros((1, RATE_HZ), np.float32))  # librosa loads what it needs at the first call
    seconds, scores = 0.0, []
    began_s = time.perf_counter()
    for path in sorted(recordings.rglob("*.wav")):
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        for start in range(0, len(samples) - rate_hz + 1, rate_hz):
            spectrogram = log_mel(np.ascontiguousarray(samples[start : start + rate_hz].T))
            scores.append(float(model.score(windows(spectrogram, model.metadata.features))[0].mean()))
            seconds += 1.0
    return {"realtime": seconds / (time.perf_counter() - began_s), "mean_score": float(np.mean(scores))}


def _librosa(config: FeatureConfig) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    import librosa

    def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        energies = librosa.feature.melspectrogram(
            y=samples - samples.mean(axis=-1, keepdims=True),
            sr=config.sample_rate_hz,
            n_fft=config.n_fft,
            hop_length=config.hop,
            n_mels=config.bands,
            center=False,
        )
        return np.log(np.maximum(energies, np.float32(config.floor)))

    return log_mel


def _command(model: Path, recordings: Path, out: Path, jobs: int) -> list[str]:
    program = [sys.executable, "-c", "from commands import main; main()", "replay", str(recordings)]
    return [*program, "--model", str(model), "--out", str(out), "--jobs", str(jobs), "--json"]


def _replay(model: Path, recordings: Path, out: Path, jobs: int) -> float:
    done = subprocess.run(_command(model, recordings, out, jobs), check=True, stdout=subprocess.PIPE)
    return float(orjson.loads(done.stdout)["realtime_factor"])


def _memory(model: Path, folder: Path) -> dict[str, float]:
    """Replay many files of one second, and watch the memory of all its processes."""
    many = folder / "many"
    rng = np.random.default_rng(1)
    for number in range(FRAMES):
        path = many / f"machine-{number % 4}" / str(number // 4000) / f"normal_{number:07}.wav"
        if number < _DISTINCT:
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, rng.normal(0, 0.05, RATE_HZ), RATE_HZ, subtype="PCM_16")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        first = number % _DISTINCT
        os.link(many / f"machine-{first % 4}" / "0" / f"normal_{first:07}.wav", path)
    sizes: list[float] = []
    out = folder / "many-out"
    with subprocess.Popen(_command(model, many, out, CORES), stdout=subprocess.PIPE) as running:
        watching = threading.Thread(target=_watch, args=(running, sizes))
        watching.start()
        assert running.stdout is not None
        summary = orjson.loads(running.stdout.read())
        watching.join()
    assert summary["frames"] == FRAMES, summary
    if not sizes:
        raise SystemExit(f"WHIRR_BENCH_REPLAY_FRAMES is {FRAMES}; expected enough to keep all processes busy, as 10000")
    fifth = max(1, len(sizes) // 5)
    return {"replay_rss_mb": max(sizes), "replay_rss_growth_mb": max(sizes[fifth:]) - max(sizes[:fifth])}


def _watch(running: subprocess.Popen[bytes], sizes: list[float]) -> None:
    """Note how much memory it takes while all its scoring processes are there."""
    while running.poll() is None:
        processes = _family(running.pid)
        if len(processes) > CORES:
            sizes.append(sum(map(_rss_mb, processes)))
        time.sleep(0.25)


def _family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(child))]


def _rss_mb(pid: int) -> float:
    """Return the resident memory of a process, or 0 once it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmRSS:\s+(\d+)", status)
    return int(match[1]) / 1024 if match else 0.0


def main() -> None:
    """Print one JSON object: of the plain loop (``--plain KIND MODEL DIR``), or of the whole measurement."""
    if sys.argv[1:2] == ["--plain"]:
        print(orjson.dumps(plain_loop(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))).decode())
        return
    with tempfile.TemporaryDirectory(prefix="whirr-bench-") as folder:
        print(orjson.dumps(measure(seed_model(Path(folder), 1e6))).decode())


if __name__ == "__main__":
    main()
