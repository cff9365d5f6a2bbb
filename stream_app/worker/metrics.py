"""What a worker counts and measures, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from stream_app.pipeline import Router
from stream_app.worker.resident_models import ResidentCount

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600)
MAX_GAP_SENSORS = 500
GAP_SHOWN_S = 3600.0
OTHERS = "(others)"  # no machine id has brackets
_FRAMES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class WorkerMetrics:
    """One worker's metrics, in a registry of their own.

    Args:
        clock_s: Monotonic time.

    Attributes:
        frames: Frames by what became of them: scored, late, idle, dead_letter; ``revoked`` ones were dropped
            because their partition went to another worker, which scores them.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.frames = Counter("whirr_frames", "Frames, by what became of them", ["outcome"], registry=registry)
        self.suppressed_frames = Counter(
            "whirr_suppressed_frames",
            "Frames above the alert threshold that did not count since their machine was in a maintenance window",
            registry=registry,
        )
        self.alerts = Counter("whirr_alerts", "Alerts sent", ["kind", "state"], registry=registry)
        self.dead_letters = Counter("whirr_dead_letters", "Records not used", ["code"], registry=registry)
        self.unreadable = Counter(
            "whirr_unreadable_records", "Records passed over because they can't be read", registry=registry
        )
        self.sequence_gaps = Counter(
            "whirr_sequence_gaps",
            "Frames that gaps in the sensors' counters say were lost",
            ["machine", "source"],
            registry=registry,
        )
        self._gap_sensors: dict[tuple[str, str], float] = {}  # when each had its last gap, oldest first
        self.streams = Gauge("whirr_streams", "Streams (machine and sensor) that are remembered", registry=registry)
        self.learning_machines = Gauge(
            "whirr_learning_machines", "Machines that no model judges yet, or that are learnt anew", registry=registry
        )
        self.new_streams = Counter("whirr_new_streams", "Streams seen for the first time", registry=registry)
        self.streams_forgotten = Counter(
            "whirr_streams_forgotten",
            "Streams forgotten: silent for long, or to make room",
            ["reason"],
            registry=registry,
        )
        self.batch_frames = Histogram("whirr_batch_frames", "Frames in a batch", buckets=_FRAMES, registry=registry)
        self.compute_seconds = Histogram(
            "whirr_compute_seconds", "Decoding and scoring a batch", buckets=_SECONDS, registry=registry
        )
        self.send_seconds = Histogram(
            "whirr_send_seconds", "Sending a batch's answers until acknowledged", buckets=_SECONDS, registry=registry
        )
        self.latency_seconds = Histogram(
            "whirr_end_to_end_latency_seconds",
            "From a frame's Kafka timestamp until its answer is stored and it is acknowledged",
            buckets=_SECONDS,
            registry=registry,
        )
        self.model_info = Gauge("whirr_model_info", "Models in use", ["route", "name", "version"], registry=registry)
        self.model_refused = Counter("whirr_model_refused", "Models refused while running", registry=registry)
        self.resident_models = Gauge(
            "whirr_resident_models", "Models of single machines that are loaded", registry=registry
        )
        self.resident_model_bytes = Gauge(
            "whirr_resident_model_bytes", "Memory that models of single machines take", registry=registry
        )
        self.resident_model_loads = Counter(
            "whirr_resident_model_loads",
            "Models of single machines loaded since a frame needed them",
            registry=registry,
        )
        self.resident_model_evictions = Counter(
            "whirr_resident_model_evictions", "Models of single machines evicted to make room", registry=registry
        )
        self._resident = ResidentCount()
        self.verdicts = Gauge("whirr_verdicts", "Incidents of which something was said", registry=registry)
        self.verdicts_late = Counter(
            "whirr_verdicts_late", "Verdicts that were read after they began to count", registry=registry
        )
        self.verdicts_age_seconds = Gauge(
            "whirr_verdicts_age_seconds", "Since when what was said may be unknown here", registry=registry
        )
        self.shadow_scores = Counter("whirr_shadow_scores", "Scores of challengers, given in shadow", registry=registry)
        self.shadow_models = Gauge("whirr_shadow_models", "Challengers that score in shadow", registry=registry)
        self.shadow_dropped = Counter(
            "whirr_shadow_dropped", "Challengers that do not score in shadow, by reason", ["reason"], registry=registry
        )
        self.commit_age_seconds = Gauge(
            "whirr_commit_age_seconds", "How long acknowledged frames wait for a commit to move", registry=registry
        )
        self.oldest_unanswered_seconds = Gauge(
            "whirr_oldest_unanswered_seconds", "Age of the oldest frame taken and not answered", registry=registry
        )
        self.compute_restarts = Counter(
            "whirr_compute_restarts", "Computing processes lost and started anew", ["reason"], registry=registry
        )
        self.lag_frames = Gauge(
            "whirr_lag_frames", "Frames stored but not yet answered", ["partition"], registry=registry
        )
        self.ready = Gauge("whirr_ready", "1 while the worker is ready", registry=registry)
        self.partitioner_mismatch = Counter(
            "whirr_partitioner_mismatch",
            "Machines seen on another partition than murmur2 gives, or on two",
            registry=registry,
        )

    def show_models(self, router: Router) -> None:
        """Say which models are in use."""
        self.model_info.clear()
        for entry in router.routed:
            for model in router.models_of(entry):
                self.model_info.labels(entry.route.match, model.metadata.name, model.metadata.version).set(1)

    def show_resident(self, count: ResidentCount) -> None:
        """Say which models of single machines are loaded; a computing process that is new counts from 0."""
        before, self._resident = self._resident, count
        self.resident_models.set(count.models)
        self.resident_model_bytes.set(count.n_bytes)
        if count.loaded < before.loaded:
            before = ResidentCount()
        self.resident_model_loads.inc(count.loaded - before.loaded)
        self.resident_model_evictions.inc(count.evicted - before.evicted)

    def count_gap(self, machine: str, source: str, frames: int) -> None:
        """Count frames that a sensor's counter says were lost.

        At most 500 sensors have a series each and the rest share one: ids come from gateways, and a hostile one could
        make any number of series. A sensor without a gap for an hour makes room for another.
        """
        sensor, now_s = (machine, source), self._clock_s()
        if sensor not in self._gap_sensors and len(self._gap_sensors) >= MAX_GAP_SENSORS:
            oldest = next(iter(self._gap_sensors))
            if now_s - self._gap_sensors[oldest] < GAP_SHOWN_S:
                self.sequence_gaps.labels(OTHERS, "").inc(frames)
                return
            del self._gap_sensors[oldest]
            self.sequence_gaps.remove(*oldest)
        self._gap_sensors.pop(sensor, None)
        self._gap_sensors[sensor] = now_s
        self.sequence_gaps.labels(*sensor).inc(frames)

    def show_lag(self, lag_frames: Mapping[int, int]) -> None:
        """Say how many frames of each partition of this worker's are not yet answered."""
        self.lag_frames.clear()
        for partition, frames in lag_frames.items():
            self.lag_frames.labels(str(partition)).set(frames)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
