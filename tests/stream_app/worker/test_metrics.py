"""What the metrics say, and that the alert rules speak of metrics that there are."""

from __future__ import annotations

import re

import yaml

from stream_app.worker.metrics import MAX_GAP_SENSORS, OTHERS, WorkerMetrics
from stream_app.worker.resident_models import ResidentCount
from tests.helpers import REPOSITORY

RULES = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "whirr.rules.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]


def exported() -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (whirr_\w+) (\w+)", WorkerMetrics().text().decode(), re.MULTILINE))


def samples() -> set[str]:
    """Return the names that Prometheus knows a sample by."""
    endings = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + ending for name, kind in exported().items() for ending in endings.get(kind, ("",))}


def test_the_rules_speak_of_metrics_that_there_are() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    for rule in ALERTS:
        named = set(re.findall(r"\bwhirr_\w+", rule["expr"]))
        assert named, rule["alert"]
        assert named <= samples(), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "action"} <= set(rule["annotations"])
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_labels_in_rules_are_those_of_the_metrics() -> None:
    metrics = WorkerMetrics()
    metrics.dead_letters.labels("not_audio").inc()
    metrics.count_gap("pump-1", "mic", 2)
    metrics.show_lag({0: 3})
    metrics.model_info.labels("*", "tiny", "1").set(1)
    text = metrics.text().decode()
    for line in (
        'whirr_dead_letters_total{code="not_audio"} 1.0',
        'whirr_sequence_gaps_total{machine="pump-1",source="mic"} 2.0',
        'whirr_lag_frames{partition="0"} 3.0',
        'whirr_model_info{name="tiny",route="*",version="1"} 1.0',
    ):
        assert line in text


def test_a_gateway_cannot_make_any_number_of_series() -> None:
    metrics = WorkerMetrics()
    for number in range(MAX_GAP_SENSORS + 100):
        metrics.count_gap(f"pump-{number}", "mic", 1)
    metrics.count_gap("pump-0", "mic", 1)
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith("whirr_sequence_gaps_total{")]
    assert len(lines) == MAX_GAP_SENSORS + 1
    assert f'whirr_sequence_gaps_total{{machine="{OTHERS}",source=""}} 100.0' in lines
    assert 'whirr_sequence_gaps_total{machine="pump-0",source="mic"} 2.0' in lines


def test_sensors_whose_gaps_are_long_ago_make_room() -> None:
    clock = [0.0]
    metrics = WorkerMetrics(lambda: clock[0])
    for number in range(MAX_GAP_SENSORS):
        metrics.count_gap(f"made-up-{number}", "", 1)
    clock[0] = 1800.0
    metrics.count_gap("made-up-0", "", 1)
    metrics.count_gap("pump-1", "", 1)
    assert 'machine="pump-1"' not in metrics.text().decode()
    clock[0] = 3601.0
    metrics.count_gap("pump-1", "", 1)
    text = metrics.text().decode()
    assert 'machine="pump-1"' in text
    assert 'machine="made-up-1"' not in text
    assert 'machine="made-up-0"' in text, "its last gap is half an hour old"


def test_partitions_that_went_show_no_lag() -> None:
    metrics = WorkerMetrics()
    metrics.show_lag({0: 3, 1: 4})
    metrics.show_lag({1: 5})
    text = metrics.text().decode()
    assert 'whirr_lag_frames{partition="1"} 5.0' in text
    assert 'partition="0"' not in text


def test_what_is_resident_is_counted_on_when_the_computing_process_is_new() -> None:
    metrics = WorkerMetrics()
    for count in (ResidentCount(2, 200, 2, 0), ResidentCount(2, 210, 5, 3), ResidentCount(1, 100, 1, 0)):
        metrics.show_resident(count)
    text = metrics.text().decode()
    assert "whirr_resident_models 1.0" in text
    assert "whirr_resident_model_bytes 100.0" in text
    assert "whirr_resident_model_loads_total 6.0" in text
    assert "whirr_resident_model_evictions_total 3.0" in text
