"""A child ends with its parent, whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import eventually, is_running

CHILD = """
import sys, time
from whirr import process
process.end_with(int(sys.argv[1]))
print("here", flush=True)
while True:
    pass
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""
# As the worker starts it; Feast is imported first.
FEATURES = """
import asyncio
from feature_repo.push.push_process import PushProcess
from whirr.settings import load_settings
async def main():
    process = PushProcess(load_settings(), lambda kind, answer: print(kind, process._child.pid, flush=True))
    await process.send(lambda: ("push", [], []))
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel sees to it on Linux only")
@pytest.mark.parametrize("stopped", [False, True], ids=["in a loop", "stopped"])
def test_a_child_ends_with_a_parent_that_is_killed(stopped: bool) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert parent.stdout.readline() == "here\n"
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not is_running(pid), 20)


def test_a_child_whose_parent_ended_before_it_began_ends_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, "1"], timeout=60, check=False, capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel sees to it on Linux only")
def test_the_process_that_writes_features_ends_with_the_worker_though_it_is_stopped(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", FEATURES], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline().split()[1])
    os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not is_running(pid), 20)
