"""The pure core: bytes -> samples -> log-mel and 13 statistics -> score -> alert state. No network, no framework."""

from recordings import Audio, decode, read_recording
from stream_app.pipeline.analyse import Computed, frame_cost
from stream_app.pipeline.backtest import backtest
from stream_app.pipeline.engine import Engine, Outcome
from stream_app.pipeline.features import Features
from stream_app.pipeline.lineup import Champion, Lineup
from stream_app.pipeline.model import METADATA_KEY, Model, golden_array, golden_window
from stream_app.pipeline.resample import resample
from stream_app.pipeline.router import Router
from stream_app.pipeline.sensor import level_dbfs, sensor_fault
from stream_app.pipeline.state import StateHeader, StreamState, is_learning, newest_of, silent_in_summary, state_header
from stream_app.pipeline.statistics import STATISTICS
from stream_app.pipeline.verdict_timeline import Verdicts
from stream_app.pipeline.windowing import windows

__all__ = [
    "METADATA_KEY",
    "STATISTICS",
    "Audio",
    "Champion",
    "Computed",
    "Engine",
    "Features",
    "Lineup",
    "Model",
    "Outcome",
    "Router",
    "StateHeader",
    "StreamState",
    "Verdicts",
    "backtest",
    "decode",
    "frame_cost",
    "golden_array",
    "golden_window",
    "is_learning",
    "level_dbfs",
    "newest_of",
    "read_recording",
    "resample",
    "sensor_fault",
    "silent_in_summary",
    "state_header",
    "windows",
]
