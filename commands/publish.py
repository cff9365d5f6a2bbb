"""``whirr publish``: send the frames of recordings to Kafka."""

from __future__ import annotations

import tempfile
from pathlib import Path

from commands import _recordings as option
from commands._options import ColumnsOption
from commands._output import print_json, print_notes


def publish(
    folder: option.Folder,
    speed: option.Speed = "1",
    model: option.Model = None,
    routes: option.Routes = None,
    frame_s: option.FrameS = None,
    machine: option.Machine = None,
    source: option.Source = None,
    columns: ColumnsOption = None,
    pattern: option.Pattern = None,
    labels: option.Labels = None,
    include_train: option.IncludeTrain = False,
    times: option.Times = "auto",
    zone: option.Zone = "UTC",
    start: option.Start = option.START,
    every_s: option.EveryS = None,
    order: option.Order = "labels",
    bootstrap: option.Bootstrap = None,
    topic: option.Topic = None,
    as_json: option.Json = False,
) -> None:
    """Publish recordings to Kafka in their order and with their spacing, for workers to score.

    Frames are as long as the models of --model or --routes were calibrated for; without either, a second.
    Exit codes: 0 all is acknowledged, 2 something can't be used, 3 Kafka can't be reached, 130 interrupted.
    """
    from backtest.replay.finding import Finder
    from backtest.replay.models import load, routes_of, settings_of
    from backtest.store import opened
    from commands._publishing import print_published, send, speed_of
    from stream_app.pipeline import Router

    option.end_as_interrupted()
    settings = settings_of(routes, kafka_bootstrap_servers=bootstrap, frames_topic=topic)
    times_as_fast = speed_of(speed)
    router = Router(())
    if model is not None or routes is not None:
        router = load(routes_of(settings, model, use_routes=routes is not None), settings).router
    with tempfile.TemporaryDirectory(prefix="whirr-publish-") as out:
        config = option.replay_config(
            folder,
            Path(out),
            frame_s=frame_s,
            machine=machine,
            source=source,
            columns=columns,
            pattern=pattern,
            labels=labels,
            include_train=include_train,
            times=times,
            zone=zone,
            start=start,
            every_s=every_s,
            order=order,
        )
        with opened(config.out, {}) as store:
            found = Finder(config, store, router, lambda _files: None).find()
            print_notes(found.notes)
            sent = send(store, config, settings, times_as_fast)
    sent |= {"times": found.times, "notes": list(found.notes)}
    print_json(sent) if as_json else print_published(sent)
