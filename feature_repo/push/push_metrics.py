"""What a worker that writes features counts and measures, for Prometheus."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from feature_repo.push.pusher import Report

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class PushMetrics:
    """Metrics of the feature store, in a worker's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._pushed_at_s = time.monotonic()
        self.rows = Counter("whirr_feature_rows", "Rows, by what became of them", ["outcome"], registry=registry)
        self.failures = Counter("whirr_feature_push_failures", "Pushes that failed", registry=registry)
        self.pending = Gauge("whirr_feature_pending_machines", "Machines not yet written", registry=registry)
        self.seconds = Histogram("whirr_feature_push_seconds", "One push", buckets=_SECONDS, registry=registry)
        self.age = Gauge("whirr_feature_push_age_seconds", "Since the last push that succeeded", registry=registry)
        self.age.set_function(lambda: time.monotonic() - self._pushed_at_s)

    def report(self, report: Report) -> None:
        """Count what a flush did."""
        self.rows.labels("pushed").inc(report.pushed)
        self.rows.labels("stale").inc(report.stale)
        self.pending.set(report.pending)
        self.seconds.observe(report.seconds)
        if report.failed:
            self.failures.inc()
        else:
            self._pushed_at_s = time.monotonic()
