"""Child processes that do not outlive their parent, and free ports for them to listen on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
# Loaded here, not in the forked child, where taking the loader's lock could deadlock.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listened on a moment ago; another process may still be quicker."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on ``port`` now; connections still closing there do not count as taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def start(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a process group of its own, with no standard input.

    On Linux the kernel kills the child when the thread that started it ends, however that happens, so start long-lived
    children from a thread that lives as long. Elsewhere only :func:`stop` ends it.

    Args:
        command: Program and arguments.
        output: Where its standard output and error go.
        env: Its whole environment; None passes this process's on.
        cwd: Its working directory.
        user: Run as this user (with the user's groups); needs root.

    Raises:
        OSError: The program can't be started.
    """
    uid, gid, groups = _identity(user)
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=None if env is None else dict(env),
        cwd=cwd,
        process_group=0,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509 - two system calls, nothing that takes a lock
        user=uid,
        group=gid,
        extra_groups=groups,
    )


def stop(process: subprocess.Popen[bytes], grace_s: float = 5.0, first: signal.Signals = signal.SIGTERM) -> None:
    """Stop the process and its group: ``first``, then SIGKILL after ``grace_s`` seconds. Returns once it is gone."""
    _signal_group(process, first)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Also when the leader has gone: what it started may not have.
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _identity(user: str | None) -> tuple[int | None, int | None, list[int] | None]:
    if user is None:
        return None, None, None
    import grp
    import pwd

    entry = pwd.getpwnam(user)
    extra = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
    return entry.pw_uid, entry.pw_gid, extra


def end_with(parent: int) -> None:
    """End this process when its parent ends, whatever either does then: called by a child as soon as it runs.

    On Linux the kernel sees to it, also where this process is stopped or in a loop that never comes back to Python;
    "parent" is the thread that started it. Elsewhere a thread looks once a second.

    Args:
        parent: The parent's process id, as the parent told it: it may have ended already.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if _LIBC is None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _die_with_parent() -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    libc, parent = _LIBC, os.getpid()

    def ask_the_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the request was in
            os._exit(1)

    return ask_the_kernel
