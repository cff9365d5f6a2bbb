"""What a replay wrote, read back for comparison with the backtest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pyarrow import parquet

from schemas import Alert, Score
from schemas.times import format_rfc3339


def scores(out: Path) -> list[dict[str, Any]]:
    return parquet.read_table(out / "scores.parquet").to_pylist()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def alerts(out: Path) -> list[dict[str, Any]]:
    return [timeless(alert) for alert in lines(out / "alerts.jsonl")]


def timeless(alert: dict[str, Any]) -> dict[str, Any]:
    """Without the wall clock's time."""
    return {name: value for name, value in alert.items() if name != "scored_at"}


def score_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row of the table says of a frame, as :func:`told` puts it."""
    recorded_at = format_rfc3339(round(row["recorded_time"].timestamp() * 1e6))
    model = (row["model"], row["version"])
    names = ("score", "threshold", "status", "idle_reason", "sensor_fault", "level_dbfs")
    return row["frame_id"], row["machine_id"], row["source"], recorded_at, *(row[name] for name in names), *model


def told(score: Score) -> tuple[Any, ...]:
    """What a score says of its frame."""
    return (
        score.frame_id,
        score.machine_id,
        score.source,
        score.recorded_at,
        score.score,
        score.threshold,
        score.status,
        score.idle_reason,
        score.sensor_fault,
        score.level_dbfs,
        score.model.name,
        score.model.version,
    )


def as_json(alert: Alert) -> dict[str, Any]:
    import orjson

    return timeless(orjson.loads(orjson.dumps(alert)))
