"""Runs a worker from start to end, and says with its exit code how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from schemas.errors import AccessRefused, ServiceUnavailable
from stream_app.worker.app import SETTLE_S, WorkerApp, create_app, release
from stream_app.worker.champions import Champions, ModelTrial, describe, load_champions
from stream_app.worker.compute import ComputeFailed, ComputeProcess
from stream_app.worker.health import STALLED_EXIT_CODE
from stream_app.worker.lineups import Lineups
from stream_app.worker.model_files import ModelFiles, RegisteredFiles
from stream_app.worker.topic_setup import ensure_topics
from stream_app.worker.watchdog import Stalled
from stream_app.worker.web_port import choose_web_port
from whirr.kafka_clients import refused_within
from whirr.logs import configure_logging
from whirr.mlflow_client import ModelRegistry
from whirr.retries import retrying
from whirr.settings import Settings

log = logging.getLogger(__name__)
_T = TypeVar("_T")

CRASHED_EXIT_CODE = 1
STOP_S = 10.0
EXIT_S = 15.0  # from the signal; a batch in flight and its commit take at most 10
_BACKOFF_S = (1.0, 30.0)


def run_worker(settings: Settings) -> int:
    """Run a worker until it is told to stop (SIGTERM, SIGINT) or can't go on; return its exit code.

    0: stopped cleanly. 1: something could not be sent, or Faust failed. 5: Kafka refuses this user. 70: frames were not
    answered, or commits did not move.

    Raises:
        SettingsError: No routes, topics that don't fit, or a web port that is taken.
        ModelError: A route's model can't be used.
        AccessRefused: Kafka lets this worker not in, or not make a topic that is missing.
    """
    configure_logging(settings.log_level, settings.log_format)
    compute = ComputeProcess(
        settings.route,
        settings.log_level,
        log_format=settings.log_format,
        timeout_s=settings.longest_batch_s,
        model_timeout_s=settings.model_timeout_s,
        max_model_bytes=settings.max_model_mb << 20,
    )
    compute.start()
    try:
        return asyncio.run(_run(settings, compute))
    except ComputeFailed as error:  # before frames were taken
        log.critical("%s", error)
        return STALLED_EXIT_CODE
    finally:
        compute.stop()


async def _run(settings: Settings, compute: ComputeProcess) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        exit_anyway(EXIT_S, 0)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    files = RegisteredFiles(settings.worker_dir / "models", ModelRegistry(settings))
    lineups = Lineups(
        files,
        settings.route,
        keep_s=settings.frames_retention_h * 3600,
        most_challengers=settings.max_shadow_models,
    )
    champions = await _unless(stop, _champions(settings, files, lineups))
    if champions is None:
        return 0
    web_port = await choose_web_port(settings)
    loaded = await _unless(stop, _loaded(compute, champions))
    if loaded is None:
        return 0
    partitions = await _unless(stop, ensure_topics(settings))
    if partitions is None:
        return 0
    app = create_app(settings, champions, compute, partitions, web_port, files, lineups=lineups)
    _announce(app, partitions, web_port)
    return await _serve(app, stop)


async def _champions(settings: Settings, files: ModelFiles, lineups: Lineups | None = None) -> Champions:
    """Load the models; while the registry is away, say so once and ask again, ever more seldom."""

    def load() -> Champions:
        with ModelTrial(settings.model_timeout_s, settings.worker_dir / "models") as trial:
            return load_champions(settings.route, files, trial, lineups)

    def tell(error: Exception, failures: int, _wait_s: float) -> None:
        if failures == 1:
            log.warning("%s; waiting for it", error)

    return await retrying(ServiceUnavailable, *_BACKOFF_S, tell)(asyncio.to_thread, load)


async def _loaded(compute: ComputeProcess, champions: Champions) -> bool:
    await compute.load(champions.router, champions.files, champions.beside)
    return True


async def _serve(app: WorkerApp, stop: asyncio.Event) -> int:
    app.in_worker = True
    flow = asyncio.create_task(app.flow.run(), name="flow")
    watchdog = asyncio.create_task(app.watchdog.run(), name="watch")
    verdicts = asyncio.create_task(app.verdicts.run(), name="verdicts")
    start = asyncio.create_task(_start(app), name="start")
    asked = asyncio.create_task(stop.wait())
    down = asyncio.create_task(_down(app, start))
    features = [asyncio.create_task(app.features.run(), name="features")] if app.features else []
    try:
        await asyncio.wait({flow, watchdog, verdicts, asked, down}, return_when=asyncio.FIRST_COMPLETED)
        code = _exit_code(app, flow, watchdog, verdicts, down)
        if code:
            exit_anyway(EXIT_S, code)
        else:
            log.info("stopping")
            await release(app)
    finally:
        await _stop(app, [flow, watchdog, verdicts, start, asked, down, *features])
    log.info("stopped")
    return code


async def _start(app: WorkerApp) -> None:
    """Begin to take frames, with what was said of incidents until now."""
    await app.verdicts.wait_for_first_read()
    await app.start()


async def _down(app: WorkerApp, start: asyncio.Task[None]) -> None:
    """Return when Faust has stopped or crashed by itself."""
    await start
    await app.wait_until_stopped()


def _exit_code(app: WorkerApp, *tasks: asyncio.Task[None]) -> int:
    for task in tasks:
        if not task.done():
            continue
        error = None if task.cancelled() else task.exception()
        if error is None:
            error = app.crash_reason
        stalled = error.subgroup((Stalled, ComputeFailed)) if isinstance(error, BaseExceptionGroup) else None
        if stalled is not None:
            log.critical("%s; exiting so that a new worker can take over", stalled.exceptions[0])
            return STALLED_EXIT_CODE
        refused = refused_within(error, app.settings)
        if refused is not None:
            log.critical("%s", refused)
            return AccessRefused.exit_code
        log.critical("the worker can't go on: what is not acknowledged comes again", exc_info=error)
        return CRASHED_EXIT_CODE
    return 0


async def _stop(app: WorkerApp, tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(Exception):
        async with asyncio.timeout(STOP_S):
            await app.stop()
    await asyncio.gather(*tasks, return_exceptions=True)


def exit_anyway(after_s: float, code: int) -> None:
    """End this process ``after_s`` seconds from now, whatever still hangs.

    Faust waits for its consumer's thread without a limit, and Python at its end for every thread that was not made
    a daemon, such as one that asks a registry. By then what was in flight is settled, and what is not acknowledged
    comes again.
    """

    def end() -> None:
        log.warning("still not stopped %g s after it began to; ending with exit code %d", after_s, code)
        logging.shutdown()
        os._exit(code)

    timer = threading.Timer(after_s, end)
    timer.daemon = True
    timer.start()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Return what ``work`` returns, or None if told to stop before."""
    working, asked = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None


def _announce(app: WorkerApp, partitions: int, web_port: int) -> None:
    settings = app.settings
    for pattern, model in describe(app.engine.router).items():
        log.info("machines %s: %s", pattern, model)
    log.info(
        "worker %s on %s takes %s (%d partitions) from %s; http://%s:%d/ready and /metrics",
        settings.worker_id,
        socket.gethostname(),
        settings.frames_topic,
        partitions,
        settings.bootstrap,
        settings.web_host,
        web_port,
    )


__all__ = ["SETTLE_S", "configure_logging", "run_worker"]
