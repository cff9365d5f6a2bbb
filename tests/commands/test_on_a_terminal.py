"""Every command as a person runs it: on a terminal, without --json, with names from a hostile gateway."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import soundfile

import archive
from commands import COMMANDS, load_command
from commands.models import _COLUMNS
from schemas import DeadLetter, FrameRecord
from stream_app.worker.champions import Champions
from tests.archive.kept import added, frame
from tests.feature_stores import SHIPPED, a_store, row
from tests.helpers import KafkaUnderTest
from tests.models import NORMAL_RMS, course
from tests.registered_models import register, sound_model
from tests.stream_app.worker.fakes import ENCODER, alert_of
from tests.terminals import Ran, on_a_terminal, with_a_reader_that_has_gone
from whirr.broker import EmbeddedBroker
from whirr.options import declared
from whirr.settings import Settings

# One world for all, and every command in it.
pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("terminal"), pytest.mark.slow]
RATE_HZ = 16_000
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m[red]\u202e\u2028"
SHOWN = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m[red]\\u202e\\u2028"
GONE = 141


@dataclass(frozen=True)
class Run:
    """How a command is run here.

    Attributes:
        args: Its arguments; {names} stand for what :class:`World` makes.
        says: What the terminal shows.
        code: How it ends.
        interrupt_at: Ctrl-C is typed once this was printed, for what does not end by itself.
        keys: What is typed.
    """

    args: str
    says: str
    code: int = 0
    interrupt_at: str | None = None
    keys: bytes = b""


RUNS = {
    "alerts": Run("alerts", SHOWN),
    "alerts audio": Run("alerts audio {alert}", "has no frame", code=1),
    "verdict": Run("verdict {alert} confirmed --by ana --fault bearing", "is confirmed, bearing"),
    "verdicts": Run("verdicts --all", "verdict"),
    "broker": Run("broker --port 0", "Stop it with Ctrl-C", interrupt_at="Stop it with Ctrl-C"),
    "dlq list": Run("dlq list", "\\x1b[2J"),
    "dlq replay": Run("dlq replay", "to send: ", code=1, keys=b"n\n"),
    "dlq show": Run("dlq show {letter}", f"detail     {SHOWN}"),
    "edge": Run("edge {set}/pump-1 --machine pump-1 --speed max", "frames"),
    "edge status": Run("edge status", "no spool in"),
    "evaluate": Run("evaluate {set} --model {model} --bootstrap 20 --report {new}/report.html", "What an operator"),
    "feast apply": Run("feast apply", "applied"),
    "feast materialize": Run("feast materialize", "history"),
    "feast status": Run("feast status", "machines"),
    "features": Run("features {set} --out {new}/features", "written"),
    "learn": Run("learn", "gives each machine a model of its own", code=2),
    "machines": Run("machines", "pump-1", interrupt_at="pump-1"),
    "maintenance": Run("maintenance", f"not again; {SHOWN}"),
    "models list": Run("models list", "tiny-1"),
    "models promote": Run("models promote tiny-1 --version 2 --force", "version 2 of tiny-1 is the champion"),
    "models rollback": Run("models rollback tiny-1", "is the champion"),
    "models show": Run("models show tiny-1 --version 1", "tiny-1"),
    "publish": Run("publish {set} --speed max --topic published", "frames, "),
    "compare": Run(
        "compare {set} --model {model} --out {new}/compared --topic compared --wait-s 0",
        "no live score came at all",
        code=6,
    ),
    "rescore": Run("rescore --model {model} --out {new}/rescored --topic {frames} --jobs 1", "4 frames"),
    "record": Run("record --out {new}/recorded --topic {frames}", "frames written"),
    "recordings fetch": Run("recordings fetch pump-1 --archive {archive} --out {new}/fetched", "1 file in"),
    "recordings list": Run("recordings list --archive {archive}", "1 file, "),
    "recordings mend": Run("recordings mend --archive {archive}", "0 files are in the index again"),
    "recordings pin": Run("recordings pin pump-1 --why baseline --archive {archive}", "until whatever comes"),
    "recordings prune": Run("recordings prune --archive {new}/archive", "removed: 0 recordings too old"),
    "recordings unpin": Run("recordings unpin nothing --archive {archive}", "has no pin 'nothing'", code=2),
    "replay": Run("replay {set} --model {model} --out {new}/replay --report {new}/replay.html", "not known when"),
    "settings": Run("settings", "frames_topic"),
    "simulate": Run("simulate --out {new}/simulated --seconds 20 --train-seconds 20", "recordings in"),
    "sweep": Run("sweep {results}", "Take "),
    "topics check": Run("topics check", "max.message.bytes", code=1),
    "topics create": Run("topics create", "topic"),
    "train": Run("train --normal {normals} --detector pooled --out {new}/model.onnx --no-mlflow", "model "),
    "worker": Run("worker --model {model} --web-port 0", "takes", interrupt_at="takes"),
}


def every_command() -> set[str]:
    """Return every command and subcommand; a group that runs by itself counts too."""
    found = {"edge status"}  # told by its name, since edge takes paths
    for name in COMMANDS:
        command = load_command(name)
        parts = getattr(command, "commands", {})
        found |= {f"{name} {part}" for part in parts}
        if not parts or getattr(command, "invoke_without_command", False):
            found.add(name)
    return found


def test_every_command_is_run_here():
    assert set(RUNS) == every_command()


@dataclass(frozen=True)
class World:
    """What the commands find: recordings, a model, a registry, a feature store, and a broker with messages on it."""

    folder: Path
    env: dict[str, str]
    names: dict[str, str]

    def args(self, run: Run, new: Path) -> list[str]:
        return [word.format(new=new, **self.names) for word in run.args.split()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    _recordings(folder)
    names = {"set": folder / "set", "normals": folder / "normals", "model": sound_model(folder / "model.onnx", "tiny")}
    names["archive"] = _archive(folder / "archive")
    names["results"] = _results(folder, names["model"])
    with pytest.MonkeyPatch.context() as patch, EmbeddedBroker() as broker:
        registry = Settings(mlflow_tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
        for version in ("1", "2"):
            register(registry, folder, "tiny-1", version)
        env = {
            "WHIRR_SETTINGS_FILE": str(folder / "whirr.toml"),
            "WHIRR_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "WHIRR_MLFLOW_TRACKING_URI": registry.mlflow_tracking_uri,
            "WHIRR_TOPIC_PARTITIONS": "1",
            "WHIRR_WORKER_DIR": str(folder / "worker"),
            "WHIRR_EDGE_SPOOL_DIR": str(folder / "spool"),
            "WHIRR_FEATURE_PUSH": "false",
        }
        window = {"match": "none", "start": "2026-01-01T00:00:00Z", "duration": "1h", "note": HOSTILE}
        told = "\n".join(f"{name} = {orjson.dumps(value).decode()}" for name, value in window.items())
        (folder / "whirr.toml").write_text(f"[[maintenance]]\n{told}\n")
        with a_store("sqlite", folder / "repo", patch) as store:
            shutil.copy(SHIPPED / "definitions.py", store.repo)
            store.connect().push([row("pump-1", 0, 1.5, start_us=time.time_ns() // 1000)])
            env["WHIRR_FEATURE_REPO"] = str(store.repo)
            env["WHIRR_FEATURE_STORE_YAML"] = str(store.settings.feature_store_yaml)
            for name, value in env.items():
                patch.setenv(name, value)
            kafka = KafkaUnderTest(broker.bootstrap, True, "embedded", folder)
            alert = asyncio.run(_messages(kafka))
            frames = f"frames-{kafka.suffix}"
            yield World(
                folder,
                env,
                {**{n: str(p) for n, p in names.items()}, "alert": alert, "letter": "0:0", "frames": frames},
            )


def _recordings(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for machine in ("pump-1", "pump-2"):
        for number in range(6):
            level = NORMAL_RMS * (8 if number > 3 else 1)
            label = "anomaly" if number > 3 else "normal"
            path = folder / "set" / machine / f"{label}_{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.clip(rng.normal(0, level, 2 * RATE_HZ), -1, 1), RATE_HZ, subtype="PCM_16")
    (folder / "set" / "pump-1" / f"normal_{HOSTILE.replace('/', '')}.wav").write_bytes(b"no audio")
    (folder / "normals").mkdir()
    for number in range(24):
        samples = rng.normal(0, NORMAL_RMS * rng.uniform(0.9, 1.1), 3 * RATE_HZ)
        soundfile.write(folder / "normals" / f"{number:02}.wav", samples, RATE_HZ, subtype="PCM_16")


def _archive(folder: Path) -> Path:
    kept = archive.open(str(folder))
    added(kept, [frame(0, "pump-1", "mic")])
    kept.pin("pump-1", 0, None, HOSTILE)
    return folder


def _results(folder: Path, model: Path) -> Path:
    from backtest.replay.replay_options import ReplayConfig
    from backtest.replay.routing import load, routes_of
    from backtest.replay.run import ReplayObserver, replay

    settings = Settings()
    champions: Champions = load(routes_of(settings, str(model), use_routes=False), settings)
    replay(ReplayConfig(folder=folder / "set", out=folder / "results", jobs=1), champions, ReplayObserver())
    return folder / "results"


async def _messages(kafka: KafkaUnderTest) -> str:
    """Put an alert, a dead letter and frames on the default topics, from a hostile gateway; return the alert's id."""
    settings = Settings()
    names = (settings.frames_topic, settings.alerts_topic, settings.dead_letter_topic)
    frames = f"frames-{kafka.suffix}"
    await kafka.create_topics(*names, frames, partitions=1)
    message = ENCODER.alert(alert_of("pump-1", f"mic {HOSTILE}", f"{1:032x}", "machine::opened"))
    await kafka.produce(settings.alerts_topic, [FrameRecord(message.key, message.value, message.headers, 0)])
    await kafka.produce(frames, course([1.0] * 4))
    key, headers = HOSTILE.encode(), ((f"name {HOSTILE}", HOSTILE.encode()), ("ce_source", HOSTILE.encode()))
    record = FrameRecord(key, b"no audio", headers, 1_750_000_000_000, settings.frames_topic, offset=7)
    letter = DeadLetter(code="not_audio", detail=HOSTILE, record=record)
    await kafka.produce(settings.dead_letter_topic, [FrameRecord(key, b"no audio", letter.headers())])
    alert: str = message.value.decode().partition('"alert_id":"')[2].partition('"')[0]
    return alert


def shown(world: World, run: Run, new: Path, **options: Any) -> Ran:
    return on_a_terminal(
        world.args(run, new), env=world.env, cwd=new, interrupt_at=run.interrupt_at, keys=run.keys, **options
    )


@pytest.mark.parametrize("name", RUNS)
def test_a_command_on_a_terminal(name: str, world: World, tmp_path: Path):
    run = RUNS[name]
    ran = shown(world, run, tmp_path)
    assert "Traceback" not in ran.text
    assert ran.code == run.code, ran.text
    assert run.says in ran.text.replace("\n", "") if len(run.says) > 40 else run.says in ran.text, ran.text
    assert ran.obeyed == b""


# One for each way of printing: lines, tables, JSON, the registry's and the store's; each costs a start of Python.
@pytest.mark.parametrize(
    "name", ["alerts", "dlq list", "dlq show", "edge status", "settings", "simulate", "topics check"]
)
def test_a_command_whose_reader_has_gone(name: str, world: World, tmp_path: Path):
    run = RUNS[name]
    args = world.args(run, tmp_path)
    for more in ([], ["--json"]):
        new = [word.replace("simulated", f"simulated{len(more)}") for word in args]
        code, errors = with_a_reader_that_has_gone([*new, *more], env=world.env, cwd=tmp_path)
        assert "Traceback" not in errors
        assert "Broken" not in errors
        assert code == GONE, errors


@pytest.mark.parametrize(
    ("args", "interrupt_at", "code"),
    [
        ("alerts --follow", "pump-1", 0),
        ("train --normal {normals} --detector conv_ae --epochs 9999 --patience 9999 --out {new}/m.onnx", "loss", 130),
        ("simulate --out {new}/much --seconds 100000", "simulating", 130),
        ("edge --simulate pump-1 --speed 1", "publishing to", 0),
        ("publish {set} --speed 0.01", "publishing", 130),
        ("dlq replay", "send 1 record again?", 130),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) and " " in value else None,
)
def test_ctrl_c_ends_a_command_without_a_traceback(
    args: str, interrupt_at: str, code: int, world: World, tmp_path: Path
):
    ran = shown(world, Run(args, "", interrupt_at=interrupt_at), tmp_path)
    assert "Traceback" not in ran.text
    assert ran.code == code, ran.text


def test_the_list_of_models_breaks_no_word(world: World, tmp_path: Path):
    ran = on_a_terminal(["models", "list"], env=world.env, cwd=tmp_path, columns=80)
    words = ran.text.split()
    assert "level" in words
    assert words.count("tiny-1") == 2
    assert all(name.split()[-1] in words for name in _COLUMNS[3:])


def test_the_settings_break_no_word(tmp_path: Path):
    ran = on_a_terminal(["settings"], env={}, cwd=tmp_path, columns=80)
    assert max(map(len, ran.text.splitlines())) <= 80
    told = " ".join(ran.text.split())
    for option in declared(Settings):
        assert option.name in told
        assert " ".join(f"{option.description} ({option.range})".removesuffix(" ()").split()) in told


def test_a_list_of_models_that_is_piped_is_one_line_a_version(world: World, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "commands", "models", "list"],
        capture_output=True, text=True, check=True, env={**os.environ, **world.env}, cwd=tmp_path,
    )  # fmt: skip
    head, *rows = [line for line in done.stdout.splitlines() if line.strip()]
    assert head.split()[:2] == ["model", "version"]
    assert len(rows) == 2
    assert done.stderr.strip() == "asking the registry …"


def test_what_takes_long_is_said_at_once_where_nobody_looks(world: World, tmp_path: Path):
    program = "import sys; sys.modules['feast'] = None; from commands import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "machines"],
        capture_output=True, text=True, check=False, env={**os.environ, **world.env}, cwd=tmp_path,
    )  # fmt: skip
    assert done.stderr.splitlines()[0] == "opening the feature store …"  # before Feast is imported, which takes seconds


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300"])
def test_no_option_takes_an_infinity(value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from commands import run

    for args in (
        ["machines", f"--interval-s={value}"],
        ["evaluate", str(tmp_path), "--model", "m.onnx", f"--every-s={value}"],
        ["simulate", "--out", str(tmp_path / "x"), f"--seconds={value}"],
        ["features", str(tmp_path), f"--frame-s={value}"],
    ):
        assert run(args) == 2, args
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full, as Linux has")
@pytest.mark.parametrize("args", [["settings"], ["settings", "--json"], ["--help"]], ids=" ".join)
def test_an_output_that_is_full_is_told(args: list[str]):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "commands", *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "error: the output can't be written (No space left on device)\n")
