"""How fast a replay is, against the plain loop that anyone would write, and what its memory does over many frames.

The plain loop reads a recording with soundfile, computes log-mel and runs the model with onnxruntime, one frame after
the other: no statistics, no identities, no alert rule, nothing written down, nothing to go on with. It runs twice: with
librosa's log-mel, as people write it, and with Whirr's own, which is the harder one to follow. All hear recordings of
ten seconds, cut into frames of one, each in a process of its own, in turns; a ratio on one core is one of processor
time, and the median over the rounds. The seed's autoencoder and the default detector are asked; most of what the first
one takes is its model, which costs as much in a batch as alone.
``WHIRR_BENCH_REPLAY_FILES``, ``WHIRR_BENCH_ROUNDS`` and ``WHIRR_BENCH_REPLAY_FRAMES`` (the memory's frames: files of a
second, of which most are hard links to the same few) set how much.
"""

from __future__ import annotations

import os
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

from benchmarks.default_model import signal, train_default
from benchmarks.environment import RATE_HZ, seed_model
from benchmarks.processes import family, rss_mb
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
        ``replay_realtime_one_core`` and ``replay_plain_realtime``: seconds of signal a second of processor time;
        ``replay_realtime_all_cores``: a second, of six times as many recordings; ``replay_vs_plain_one_core`` and
        ``replay_vs_plain_all_cores``: the replay's rate over that of the plain loop, which has one core;
        ``replay_vs_own_logmel_one_core``, over that of the loop with Whirr's log-mel, and
        ``replay_default_vs_own_logmel_one_core``, the same with the default detector; ``replay_rss_mb``, the most
        memory of a replay of many frames while it scores, and ``replay_rss_growth_mb``, how much of it came over the
        last four fifths of that time.
    """
    with tempfile.TemporaryDirectory(prefix="whirr-bench-replay-") as place:
        folder = Path(place)
        recordings = _recordings(folder / "recordings")
        many = _repeated(recordings, folder / "repeated")
        default = train_default(folder / "default")
        heard = _recordings_of_a_machine(folder / "heard")
        rounds = [
            _round(model, recordings, many, folder, number) | _of_default(default, heard, folder / f"default-{number}")
            for number in range(ROUNDS)
        ]
        figures = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        return figures | _memory(model, folder)


def one_core(files: int) -> dict[str, float]:
    """Return the ratios to the loop with Whirr's log-mel alone, of one round of so many recordings."""
    with tempfile.TemporaryDirectory(prefix="whirr-bench-replay-") as place:
        folder = Path(place)
        model, default = seed_model(folder, 1e6), train_default(folder / "default")
        recordings = _recordings(folder / "recordings", files)
        heard = _recordings_of_a_machine(folder / "heard", files)
        own = _alone("--plain", "own", model, recordings)
        one = _alone("--replay", model, recordings, folder / "out")
        return {"replay_vs_own_logmel_one_core": one / own} | _of_default(default, heard, folder / "default-out")


def _of_default(model: Path, recordings: Path, out: Path) -> dict[str, float]:
    own, one = _alone("--plain", "own", model, recordings), _alone("--replay", model, recordings, out)
    return {"replay_default_realtime_one_core": one, "replay_default_vs_own_logmel_one_core": one / own}


def _round(model: Path, recordings: Path, many: Path, folder: Path, number: int) -> dict[str, float]:
    plain, own = (_alone("--plain", kind, model, recordings) for kind in ("librosa", "own"))
    one = _alone("--replay", model, recordings, folder / f"one-{number}")
    every = _on_all_cores(model, many, folder / f"all-{number}")
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


def _recordings(folder: Path, files: int = FILES) -> Path:
    rng = np.random.default_rng(0)
    for number in range(files):
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


def _recordings_of_a_machine(folder: Path, files: int = FILES) -> Path:
    """Write what the machine sounds like that the default detector has learnt."""
    folder.mkdir()
    sound = signal(FILE_S * files, seed=1)
    for number, samples in enumerate(np.split(sound, files, axis=1)):
        soundfile.write(folder / f"normal_{number:05}.wav", samples.T, RATE_HZ, subtype="PCM_16")
    return folder


def _alone(*arguments: str | Path) -> float:
    """Return the seconds of signal a second of processor time of a loop or a replay in a process of its own."""
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.replay", *map(str, arguments)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, env=one_thread)
    return float(orjson.loads(done.stdout)["realtime"])


def replay_on_one_core(model_path: Path, recordings: Path, out: Path) -> dict[str, float]:
    """Replay recordings in this process; return seconds of signal a second of processor time.

    The clock starts when models and compiled loops are loaded, as the plain loop's does.
    """
    from backtest.replay.replay_options import ReplayConfig
    from backtest.replay.run import ReplayObserver, replay
    from stream_app.pipeline.optional_kernels import find_kernels
    from stream_app.worker.champions import load_champions
    from whirr.settings import Route

    find_kernels()
    champions = load_champions([Route(match="*", model=str(model_path))])
    began_s = time.process_time()
    summary = replay(ReplayConfig(folder=recordings, out=out, jobs=1), champions, ReplayObserver())
    return {"realtime": summary["scored_now_s"] / (time.process_time() - began_s)}


def plain_loop(kind: str, model_path: Path, recordings: Path) -> dict[str, float]:
    """Score each second of each recording, one after the other; return seconds of signal a second of processor time."""
    from stream_app.pipeline import Model, windows

    model = Model.load(model_path)
    log_mel = model.features.log_mel if kind == "own" else _librosa(model.metadata.features)
    log_mel(np.zeros((1, RATE_HZ), np.float32))  # librosa loads what it needs at the first call
    seconds, scores = 0.0, []
    began_s = time.process_time()
    for path in sorted(recordings.rglob("*.wav")):
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        for start in range(0, len(samples) - rate_hz + 1, rate_hz):
            spectrogram = log_mel(np.ascontiguousarray(samples[start : start + rate_hz].T))
            scores.append(float(model.score(windows(spectrogram, model.metadata.features))[0].mean()))
            seconds += 1.0
    return {"realtime": seconds / (time.process_time() - began_s), "mean_score": float(np.mean(scores))}


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


def _on_all_cores(model: Path, recordings: Path, out: Path) -> float:
    done = subprocess.run(_command(model, recordings, out, CORES), check=True, stdout=subprocess.PIPE)
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
        processes = family(running.pid)
        if len(processes) > CORES:
            sizes.append(sum(map(rss_mb, processes)))
        time.sleep(0.25)


def main() -> None:
    """Print one JSON object: of ``--plain KIND MODEL DIR``, of ``--replay MODEL DIR OUT``, or of the measurement."""
    match sys.argv[1:]:
        case ["--plain", kind, model, recordings]:
            print(orjson.dumps(plain_loop(kind, Path(model), Path(recordings))).decode())
            return
        case ["--replay", model, recordings, out]:
            print(orjson.dumps(replay_on_one_core(Path(model), Path(recordings), Path(out))).decode())
            return
    with tempfile.TemporaryDirectory(prefix="whirr-bench-") as folder:
        print(orjson.dumps(measure(seed_model(Path(folder), 1e6))).decode())


if __name__ == "__main__":
    main()
