"""``whirr learn``: decides which machine learns anew when, trains, and lets better models take over."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from commands._options import Bootstrap, setting
from schemas.errors import SettingsError, WhirrError
from schemas.model_uri import ModelTemplate
from whirr.settings import Settings, load_settings

log = logging.getLogger(__name__)


def learn(
    settings_file: Annotated[Path | None, typer.Option(help="Read this file instead of whirr.toml.")] = None,
    bootstrap: Bootstrap = None,
    jobs: Annotated[int | None, setting("learn_jobs")] = None,
) -> None:
    """Train machines anew when they need it, from what `whirr record --follow` keeps, until Ctrl-C or SIGTERM.

    Each machine whose route names a model of its own (models:/NAME.{machine}@champion) is learnt: new ones, repaired
    ones, and those whose baseline grows or drifts, without what may be a fault. What was trained is heard in shadow
    before it takes over. It may be killed at any time; the next start goes on.

    Exit codes: 0 stopped, 2 settings unusable, 3 MLflow or Dask can't be reached, 5 Kafka refuses this user.
    """
    if settings_file is not None:
        os.environ["WHIRR_SETTINGS_FILE"] = str(settings_file)
    asyncio.run(_run(load_settings(kafka_bootstrap_servers=bootstrap, learn_jobs=jobs)))


async def _run(settings: Settings) -> None:
    from archive.archive import configured_archive
    from feature_repo.store import history_folder
    from trainer.detector import find_detector
    from trainer.learning.executor import JobQueue, engine_of
    from trainer.learning.fleet import Fleet
    from trainer.learning.kept_history import KeptHistory
    from trainer.learning.learning_rule import LearningRule
    from trainer.learning.ordered_jobs import OrderedJobs
    from trainer.learning.routed_models import RoutedModels
    from trainer.learning.service import LearningService, alert_rule_of
    from whirr.durations import as_duration
    from whirr.logs import configure_logging

    def now_us() -> int:
        return time.time_ns() // 1000

    if all(ModelTemplate.parse(route.model) is None for route in settings.route):
        raise SettingsError(
            'no [[route]] gives each machine a model of its own; expected one with model = "models:/NAME.{machine}'
            '@champion" (a model that machines share is trained by `whirr train`)'
        )
    try:
        find_detector(settings.learn_detector)
    except WhirrError as error:
        raise SettingsError(f"learn_detector: {error}") from None
    configure_logging(settings.log_level, settings.log_format)
    rule = LearningRule.of(settings)
    models = RoutedModels(settings, now_us)
    archive = configured_archive(settings)
    heard = KeptHistory(archive, history_folder(settings), rule.false_drifts_per_30_days, now_us)
    queue = JobQueue(engine_of(settings.learn_engine, settings.learn_jobs), settings.learn_jobs)
    trainings = OrderedJobs(settings, archive.url, queue, settings.learn_detector)
    fleet = Fleet(rule, models, trainings, heard, alert_rule_of(settings))
    service = LearningService(settings, fleet, now_us)
    log.info(
        "learns machines %s from what is recorded in %s; a new one after %s and %d frames",
        ", ".join(route.match for route in settings.route if ModelTemplate.parse(route.model) is not None),
        archive.url,
        as_duration(rule.learn_h * 3600),
        rule.learn_frames,
    )
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, service.stop)
    try:
        await service.run()
    finally:
        trainings.close()
