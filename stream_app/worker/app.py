"""The Faust application: one agent that takes frames in batches, one table, and three pages."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import faust
from faust.types import TP
from prometheus_client import CONTENT_TYPE_LATEST

from feature_repo import store as feature_store
from feature_repo.push.push_metrics import PushMetrics
from schemas.frame import FrameRecord
from stream_app.pipeline import Engine, frame_cost
from stream_app.worker import table, transport
from stream_app.worker.backpressure import Backpressure, FrameQueue
from stream_app.worker.champions import Champions, ModelTrial, ModelWatcher
from stream_app.worker.compute import ComputeProcess
from stream_app.worker.feature_push import FeaturePush
from stream_app.worker.flow import Flow
from stream_app.worker.lease import Lease
from stream_app.worker.lineups import Lineups
from stream_app.worker.messages import Encoder
from stream_app.worker.metrics import WorkerMetrics
from stream_app.worker.model_files import ModelFiles
from stream_app.worker.offset_tracker import FetchedFrame
from stream_app.worker.placement import Placement
from stream_app.worker.processor import BatchProcessor, StreamLimits
from stream_app.worker.recovery import Tables
from stream_app.worker.sender import BATCH_BYTES, MAX_REQUEST_BYTES, KafkaSender
from stream_app.worker.states import StreamKey, StreamStates
from stream_app.worker.take import FrameStream
from stream_app.worker.verdict_follower import VerdictFollower
from stream_app.worker.watchdog import Watchdog
from whirr.kafka_clients import security_options
from whirr.maintenance import Maintenance
from whirr.settings import Settings

log = logging.getLogger(__name__)

SETTLE_S = 5.0
_BUFFERED_FRAMES = 512
_SEND_TIMEOUT_S = 60.0
_REBALANCE_TIMEOUT_S = 30.0


class WorkerApp(faust.App):  # type: ignore[misc]
    """Faust's app with Whirr's transport.

    Attributes:
        settings: The settings in force.
        engine, compute, states, room, flow, processor, lease, metrics, watch: The parts that :func:`create_app` put
            together.
        verdicts: Keeps the engine's verdicts as their topic has them.
        features: Writes to the feature store, where that is wanted.
    """

    logger = logging.getLogger("faust.whirr.app")  # Faust's own talk, not ours

    settings: Settings
    engine: Engine
    compute: ComputeProcess
    states: StreamStates
    backpressure: Backpressure
    flow: Flow
    processor: BatchProcessor
    lease: Lease
    metrics: WorkerMetrics
    watchdog: Watchdog
    verdicts: VerdictFollower
    features: FeaturePush | None

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> FrameQueue:  # noqa: N802
        """Return the queue that frames wait in for the agent."""
        return FrameQueue(
            maxsize=maxsize or 0,
            flow_control=self.flow_control,
            clear_on_resume=clear_on_resume,
            backpressure=self.backpressure,
        )

    def _new_transport(self) -> transport.Transport:
        return transport.Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> transport.Transport:
        return transport.Transport(self.conf.broker_producer, self)


def create_app(
    settings: Settings,
    champions: Champions,
    compute: ComputeProcess,
    partitions: int,
    web_port: int | None = None,
    files: ModelFiles | None = None,
    *,
    lineups: Lineups | None = None,
) -> WorkerApp:
    """Return the application, ready to start.

    Args:
        settings: The settings in force.
        champions: The models to begin with.
        compute: Scores frames; has those models.
        partitions: How many the frames topic has; the states' changelog has as many.
        web_port: Where to serve /metrics, /ready and /live; default: as the settings say.
        files: Finds new models; default: paths alone.
        lineups: Finds what stands beside champions; default: nothing.
    """
    settings.worker_dir.mkdir(parents=True, exist_ok=True)
    app = WorkerApp(settings.worker_id, **_faust_settings(settings, partitions, web_port or settings.web_port))
    engine = Engine(champions.router, Maintenance(settings.maintenance))
    engine.maintenance.coming(time.time_ns() // 1000, 1)  # looks for them now, and not between two batches
    app.settings, app.engine, app.compute, app.states, app.backpressure = (
        settings,
        engine,
        compute,
        StreamStates(),
        Backpressure(),
    )
    app.metrics = WorkerMetrics()
    app.metrics.show_models(engine.router)
    app.lease = Lease(lambda: app.consumer_generation_id)
    sender = KafkaSender(lambda: app.producer._ensure_producer())  # noqa: PLW0108 - it exists once started
    app.processor = BatchProcessor(
        engine=engine,
        states=app.states,
        sender=sender,
        lease=app.lease,
        encoder=_encoder(settings),
        metrics=app.metrics,
        placement=Placement(partitions, app.metrics),
        limits=StreamLimits(settings.max_streams, settings.max_new_streams_per_min, settings.silence_summary_from),
    )
    compute.observe = app.metrics.compute_seconds.observe
    compute.on_resident = app.metrics.show_resident
    compute.on_lost = lambda reason: app.metrics.compute_restarts.labels(reason).inc()
    compute.on_progress = app.processor.offsets.moved
    app.processor.offsets.acknowledge = lambda partition, upto, frames: app.consumer.acknowledge(
        TP(settings.frames_topic, partition), upto, frames
    )
    compute.on_shadow_dropped = lambda reason: app.metrics.shadow_dropped.labels(reason).inc()
    app.metrics.shadow_models.set_function(lambda: compute.shadows)
    if lineups is not None:
        lineups.on_dropped = compute.on_shadow_dropped
    app.backpressure.ahead = app.processor.offsets.ahead
    app.flow = Flow(
        compute,
        app.processor,
        app.metrics,
        settings.batch_frames,
        admission=_WorkerAdmission(app),
        backpressure=app.backpressure,
        budget=settings.machine_samples_per_s,
    )
    app.processor.is_queued = app.flow.is_queued
    app.verdicts = VerdictFollower(settings, lambda verdicts: setattr(engine, "verdicts", verdicts), app.metrics)
    app.watchdog = Watchdog(
        app,
        ModelWatcher(
            settings.route,
            champions,
            app.metrics.model_refused.inc,
            files,
            lambda: ModelTrial(settings.model_timeout_s, settings.worker_dir / "models"),
            lineups,
        ),
    )
    states_table = table.make_table(app, partitions, app.states)
    app.features = _features(app, states_table) if feature_store.is_wanted(settings) else None
    _add_agent(app)
    _add_signals(app)
    _add_pages(app)
    return app


class _WorkerAdmission:
    """By the streams, the models and the partitions that this worker has."""

    def __init__(self, app: WorkerApp) -> None:
        self._app = app

    def cost(self, record: FrameRecord) -> int:
        return frame_cost(record, self._app.engine.router)

    def is_known(self, stream: StreamKey) -> bool:
        return self._app.states.peek(*stream) is not None

    def is_wanted(self, taken: FetchedFrame) -> bool:
        return self._app.lease.holds(taken.generation)


def _features(app: WorkerApp, states_table: table.StateTable) -> FeaturePush:
    features = FeaturePush(app.settings, app.states, lambda: app.engine.router, PushMetrics(app.metrics.registry))
    app.states.on_put = features.offer
    app.states.on_forget = features.forget
    states_table.on_recovered = features.offer_all
    return features


def _encoder(settings: Settings) -> Encoder:
    return Encoder(
        alerts=settings.alerts_topic,
        scores=settings.scores_topic if settings.publish_scores else None,
        dead_letters=settings.dead_letter_topic,
        changelog=table.changelog_topic(settings.worker_id),
        name=settings.worker_id,
    )


def _credentials(settings: Settings) -> Any:
    """Return what Faust's own clients are given of :func:`~whirr.kafka_clients.security_options`."""
    options = security_options(settings)
    if settings.kafka_security_protocol == "SSL":
        return faust.SSLCredentials(options["ssl_context"])
    if settings.kafka_security_protocol == "PLAINTEXT":
        return None
    return faust.SASLCredentials(
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        ssl_context=options.get("ssl_context"),
        mechanism=options["sasl_mechanism"],
    )


def _faust_settings(settings: Settings, partitions: int, web_port: int) -> dict[str, Any]:
    return {
        "broker": [f"kafka://{address.strip()}" for address in settings.bootstrap.split(",")],
        "broker_credentials": _credentials(settings),
        "broker_client_id": settings.worker_id,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.session_timeout_s / 3,
        "broker_rebalance_timeout": _REBALANCE_TIMEOUT_S,
        "broker_commit_interval": settings.commit_interval_s,
        "broker_max_poll_records": 500,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": MAX_REQUEST_BYTES,
        "datadir": settings.worker_dir,
        "key_serializer": "raw",
        "value_serializer": "raw",
        "producer_acks": -1,
        "producer_linger": 0.0,
        "producer_max_batch_size": BATCH_BYTES,
        "producer_max_request_size": MAX_REQUEST_BYTES,
        "producer_request_timeout": _SEND_TIMEOUT_S,
        # A state's offset in the changelog is compared with the changelog's end only where it is kept on disk.
        "recovery_consistency_check": False,
        "store": "memory://",
        "stream_buffer_maxsize": max(_BUFFERED_FRAMES, 2 * settings.batch_frames),
        # What is in flight when partitions go is settled by a handler of ours; what is not is dropped.
        "stream_wait_empty": False,
        "topic_allow_declare": False,  # whirr.topics says what they are like
        "topic_disable_leader": True,
        "topic_partitions": partitions,
        "topic_replication_factor": settings.topic_replication,
        "web_bind": settings.web_host,
        "web_port": web_port,
        "web_stats_enabled": False,
        "web_graph_enabled": False,
        "web_router_enabled": False,
        "web_tables_enabled": False,
        "Stream": FrameStream,
        "TableManager": Tables,
        "web_metrics_enabled": False,
    }


def _add_agent(app: WorkerApp) -> None:
    settings = app.settings
    frames = app.topic(
        settings.frames_topic,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        allow_empty=True,
    )

    @app.agent(frames, name="frames", concurrency=1)  # type: ignore[untyped-decorator]
    async def take(stream: Any) -> None:
        # take() would acknowledge a batch whose processing failed; noack_take leaves that to the processor.
        async for events in stream.noack_take(settings.batch_frames, within=settings.batch_linger_s):
            frames = [taken for event in events for taken in event.message.frames]
            app.processor.offsets.take(frames)
            await app.flow.put(frames)


def _add_signals(app: WorkerApp) -> None:
    async def revoked(*_: Any, **__: Any) -> None:
        await release(app)

    async def assigned(*_: Any, **__: Any) -> None:
        app.watchdog.reset()

    app.on_partitions_revoked.connect(revoked, weak=False)
    app.on_partitions_assigned.connect(assigned, weak=False)


async def release(app: WorkerApp) -> None:
    """Let the batch in flight end, drop the rest, and commit: before partitions go, or the worker stops."""
    if not await app.processor.settle(SETTLE_S):
        log.warning("the batch in flight did not end within %g s; its frames will come again", SETTLE_S)
    offsets = app.consumer.answered(app.settings.frames_topic)
    app.processor.next_offset.clear()
    app.processor.offsets.clear()
    try:
        await app.consumer.commit_now(app.settings.frames_topic, offsets, SETTLE_S)
    except Exception as error:  # a commit that fails costs repeats, never frames
        log.warning("commit before partitions go failed, some frames will come again: %r", error)
    if app.features is not None:
        await app.features.drain()


def _add_pages(app: WorkerApp) -> None:
    @app.page("/ready")  # type: ignore[untyped-decorator]
    async def ready(view: Any, _: Any) -> Any:
        readiness = app.watchdog.readiness()
        answer = readiness.to_json(**app.watchdog.details())
        return view.json(answer, status=200 if readiness.ready else 503)

    @app.page("/live")  # type: ignore[untyped-decorator]
    async def live(view: Any, _: Any) -> Any:
        return view.json({"live": True, "time": time.time()})

    @app.page("/metrics")  # type: ignore[untyped-decorator]
    async def metrics(view: Any, _: Any) -> Any:
        app.metrics.ready.set(app.watchdog.readiness().ready)
        app.metrics.verdicts_age_seconds.set(app.verdicts.age_s)
        app.metrics.learning_machines.set(app.states.learning_machines)
        text = await asyncio.to_thread(app.metrics.text)
        return view.bytes(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
