"""How large things are, measured on what the code makes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from faust.assignor.client_assignment import ClientAssignment, ClientMetadata

from benchmarks.default_model import frames, signal
from recordings.encode import encode
from recordings.samples import SignalFormat
from schemas import FrameRecord, frame_headers
from stream_app.pipeline import Engine, Model, Router, StreamState
from stream_app.worker.messages import Encoder, Message
from stream_app.worker.metrics import MAX_GAP_SENSORS, WorkerMetrics
from stream_app.worker.states import state_key
from tests.models import START_US, tiny_model
from whirr.settings import Route, Settings, changelog_topic

MACHINE: Final = "plant-0042.pump-000001"
SOURCE: Final = "mic-1"
_SECONDS: Final = 40  # after which a state holds all that it will
_RECORD_BYTES: Final = 20  # of a record in a batch besides key, value and headers: lengths, offset, time


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one of each; a message is key, value and headers as Kafka stores them, without compression.

    Attributes:
        header: What a frame has besides its audio.
        flac_share: A FLAC's bytes over a WAV's, of what a simulated machine sounds like.
        score, alert: Messages.
        state: A stream's record in the changelog.
        series: Metrics of a worker, without those of its partitions and of single sensors.
        gap_series: Most series that a worker has of single sensors.
    """

    header: int
    flac_share: float
    score: int
    alert: int
    state: int
    series: int
    gap_series: int = MAX_GAP_SENSORS


@lru_cache
def measured() -> Sizes:
    """Return the sizes of what this code makes of a simulated machine's sound, a tiny model judging it."""
    values, wav, flac = frames(_SECONDS), 0, 0
    for value in values:
        wav += len(value)
    whole = signal(_SECONDS)
    for second in range(_SECONDS):
        own = whole[:, second * 16_000 : (second + 1) * 16_000]
        flac += len(encode(own, SignalFormat(16_000, 1, "pcm16"), "flac").value)
    encoder = Encoder(alerts="a", scores="s", dead_letters="d", changelog="c", name="whirr-worker")
    score, alert, state = _messages(values, encoder)
    header = _bytes(Message("f", MACHINE.encode(), b"", frame_headers(MACHINE, SOURCE, START_US, b"", 0)))
    series = sum(not line.startswith(b"#") for line in WorkerMetrics().text().splitlines())
    return Sizes(header, round(flac / wav, 3), score, alert, state, series)


def _messages(values: list[bytes], encoder: Encoder) -> tuple[int, int, int]:
    """Return the largest score, alert and state that a stream of frames leads to."""
    with TemporaryDirectory(prefix="whirr-fleet-") as folder:
        model = Model.load(tiny_model(Path(folder) / "tiny.onnx", scale=1.0))
        engine = Engine(Router.from_routes([Route(match="*", model="m")], {"m": model}))
        state: StreamState | None = None
        sizes: dict[str, int] = {"score": 0, "alert": 0, "state": 0}
        key = state_key((MACHINE, SOURCE))
        for number, value in enumerate(values):
            at_us = START_US + number * 1_000_000
            headers = frame_headers(MACHINE, SOURCE, at_us, value, number)
            record = FrameRecord(MACHINE.encode(), value, tuple(headers), at_us // 1000 + 1000, offset=number)
            outcome = engine.advance(engine.compute([record])[0], state, at_us)  # type: ignore[arg-type]
            state = outcome.state or state
            assert outcome.score is not None
            assert state is not None
            scored = encoder.score(outcome.score)
            assert scored is not None
            sizes["score"] = max(sizes["score"], _bytes(scored))
            sizes["state"] = max(sizes["state"], _bytes(encoder.state(0, key, state)))
            for one in outcome.alerts:
                sizes["alert"] = max(sizes["alert"], _bytes(encoder.alert(one)))
    return sizes["score"], sizes["alert"], sizes["state"]


def _bytes(message: Message) -> int:
    headers = sum(len(name) + len(value or b"") + 2 for name, value in message.headers)
    return _RECORD_BYTES + len(message.key or b"") + len(message.value or b"") + headers


@lru_cache(maxsize=4096)
def group_bytes(workers: int, partitions: int) -> int:
    """Return what a group's record in Kafka holds: each member's metadata and assignment, as Faust writes them.

    Every member of a Faust application says on joining where all partitions of all members were, and is told where
    they are; so the record grows with the square of the group.
    """
    settings = Settings()
    frames_topic, changelog = settings.frames_topic, changelog_topic(settings.worker_id)
    places = [list(range(number, partitions, workers)) for number in range(workers)]
    urls = [f"http://10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:6066" for number in range(workers)]
    one = ClientMetadata(
        assignment=ClientAssignment(actives={frames_topic: places[0], changelog: places[0]}, standbys={}),
        url=urls[0],
        changelog_distribution={url: {changelog: own} for url, own in zip(urls, places, strict=True)},
        external_topic_distribution={url: {frames_topic: own} for url, own in zip(urls, places, strict=True)},
        topic_groups={frames_topic: 0, changelog: 0},
    ).dumps()
    return workers * (len(one) + len(zlib.compress(one)))
