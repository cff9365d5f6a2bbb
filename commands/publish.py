"""``whirr publish``: send the frames of recordings to Kafka."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

from backtest.replay.replay_options import FolderOptions, ReplayConfig
from commands._options import AsJson, Bootstrap, FramesTopic, speed_of, takes
from commands._output import print_json, print_notes
from commands._recordings import Models, Speed, end_as_interrupted


@takes(FolderOptions, Models)
def publish(
    options: FolderOptions,
    models: Models,
    *,
    speed: Speed = "1",
    bootstrap: Bootstrap = None,
    topic: FramesTopic = None,
    as_json: AsJson = False,
) -> None:
    """Publish recordings to Kafka in their order and with their spacing, for workers to score.

    Frames are as long as the models of --model or --routes were calibrated for; without either, a second.
    Exit codes: 0 all is acknowledged, 2 something can't be used, 3 Kafka can't be reached, 130 interrupted.
    """
    from backtest.replay.finding import Finder
    from backtest.score_store import opened
    from commands._publishing import print_published, send
    from stream_app.pipeline import Router

    end_as_interrupted()
    settings = models.settings(kafka_bootstrap_servers=bootstrap, frames_topic=topic)
    times_as_fast = speed_of(speed)
    router = Router(())
    if models.given:
        router = models.load(settings).router
    with tempfile.TemporaryDirectory(prefix="whirr-publish-") as out:
        config = ReplayConfig(out=Path(out), **asdict(options))
        with opened(config.out, {}) as store:
            found = Finder(config, store, router, lambda _files: None).find()
            print_notes(found.notes)
            sent = send(store, config, settings, times_as_fast)
    sent |= {"times": found.times, "notes": list(found.notes)}
    print_json(sent) if as_json else print_published(sent)
