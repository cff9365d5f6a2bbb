"""A worker whose computing process hangs: it says so, helps itself, loses nothing, and still ends when told to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from stream_app.worker.health import STALLED_EXIT_CODE
from tests.helpers import KafkaUnderTest, eventually, eventually_async
from tests.models import course, tiny_model
from tests.stream_app.worker.worker_process import WorkerProcess
from whirr.settings import Route


def computing(worker: WorkerProcess) -> int:
    """The process id of a worker's computing process."""
    children = Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"compute_child" in Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.mark.timeout(300)
async def test_a_computing_process_that_hangs_is_replaced_and_a_frame_that_hangs_it_buried(
    kafka: KafkaUnderTest, tmp_path: Path
) -> None:
    path = tiny_model(tmp_path / "tiny.onnx", endless_from=3.0)
    settings = kafka.settings(
        route=(Route(match="*", model=str(path)),), compute_timeout_s=5.0, model_timeout_s=5.0, model_poll_s=0.5
    )
    await kafka.create_topics()
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        os.kill(computing(worker), signal.SIGSTOP)
        await kafka.produce(settings.frames_topic, course([1, 1, 10, 1]))  # ten times as loud is 4.6 nepers
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="dead_letter") == 1, 90)
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == 3, 30)
        assert worker.metric("whirr_compute_restarts_total", reason="timed_out") >= 2
        (letter,) = await kafka.drain(settings.dead_letter_topic)
        assert dict(letter.headers)["whirr_error"] == b"computation_timed_out"
        assert worker.readiness()["reasons"] == []
        # A model that is never done being tried is refused, and scoring goes on.
        tiny_model(path, endless_from=-1e9)
        await eventually_async(lambda: worker.metric("whirr_model_refused_total") == 1, 60)
        await kafka.produce(settings.frames_topic, course([1, 1], "pump-2"))
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == 5, 30)
        hung = computing(worker)
        os.kill(hung, signal.SIGSTOP)
        await kafka.produce(settings.frames_topic, course([1], "pump-3"))
        assert worker.stop() == 0, worker.log
    eventually(lambda: not Path(f"/proc/{hung}").exists(), 10)


# It would be ten minutes before the batch is given up: as if the watch over the computing process failed.
_NEVER_GIVES_UP = """
from stream_app.worker.compute import ComputeProcess

init = ComputeProcess.__init__
ComputeProcess.__init__ = lambda self, *args, **options: init(self, *args, **{**options, "timeout_s": 600.0})
"""


async def test_a_worker_whose_computation_hangs_for_good_is_not_ready_and_ends(
    kafka: KafkaUnderTest, tmp_path: Path
) -> None:
    route = Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")))
    settings = kafka.settings(route=(route,), compute_timeout_s=2.0, commit_stall_s=8.0)
    await kafka.create_topics()
    with WorkerProcess(settings, tmp_path, first=_NEVER_GIVES_UP) as worker:
        worker.wait_until_ready()
        os.kill(computing(worker), signal.SIGSTOP)
        await kafka.produce(settings.frames_topic, course([1]))
        await eventually_async(lambda: worker.readiness().get("frames_answered") is False, 30)
        assert worker.get("/ready")[0] == 503
        assert worker.get("/live")[0] == 200
        assert worker.wait(60) == STALLED_EXIT_CODE
