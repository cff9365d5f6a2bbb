"""How a worker ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

HANGS = """
import threading
from stream_app.worker.runner import exit_anyway
exit_anyway(0.2, 70)
threading.Thread(target=threading.Event().wait).start()  # as Faust's: no daemon, and it never ends
"""


@pytest.mark.slow
def test_a_thread_that_never_ends_does_not_keep_a_worker_alive() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 70, done.stderr
    assert "still not stopped" in done.stderr
