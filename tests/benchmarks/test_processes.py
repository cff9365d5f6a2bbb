"""Processes that measurements watch and hold back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.processes import HeldToShare, cpu_s, family, rss_mb

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that computes all the time."""
    program = "print('ready', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_family_is_a_process_and_all_below_it(busy: subprocess.Popen[bytes]) -> None:
    assert busy.pid in family(os.getpid())
    assert family(busy.pid) == [busy.pid]
    assert rss_mb(busy.pid) > 1


def test_processor_time_is_that_of_the_process() -> None:
    assert cpu_s(os.getpid()) == pytest.approx(time.process_time(), abs=0.1)
    assert cpu_s(2**22 + 1) == 0.0  # there is none of that number


def test_a_process_is_held_to_its_share_and_goes_on_afterwards(busy: subprocess.Popen[bytes]) -> None:
    until_s, never = time.monotonic() + 60, threading.Event()
    with HeldToShare(busy.pid, 0.1):
        began_s, used_s = time.monotonic(), cpu_s(busy.pid)
        while cpu_s(busy.pid) < used_s + 0.3 and time.monotonic() < until_s:
            never.wait(0.02)
        # Three tenths of a second take three seconds at a tenth of a core, whatever else the machine does.
        assert time.monotonic() - began_s > 2.0
    state = Path(f"/proc/{busy.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    assert state != "T"
