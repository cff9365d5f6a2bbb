"""The contracts: what crosses a process boundary, as Python types, JSON Schema and AsyncAPI."""

from schemas.alert import ALERT_TYPE, Alert, AlertModel, Band, Change, Drifted, FrameRef, alert_id
from schemas.condition import Condition
from schemas.dead_letter import ERROR_CODES, DeadLetter
from schemas.frame import FRAME_TYPE, Frame, FrameRecord, frame_headers, frame_id, parse_frame
from schemas.model_metadata import (
    Calibration,
    EarlyTest,
    FeatureConfig,
    GoldenWindow,
    ModelMetadata,
    StatisticsReference,
    Thresholds,
)
from schemas.score import SCORE_TYPE, ModelRef, Score
from schemas.times import format_rfc3339, parse_rfc3339
from schemas.verdict import VERDICT_TYPE, EarlierVerdict, Verdict, VerdictWord, parse_verdict, verdict_id

__all__ = [
    "ALERT_TYPE",
    "ERROR_CODES",
    "FRAME_TYPE",
    "SCORE_TYPE",
    "VERDICT_TYPE",
    "Alert",
    "AlertModel",
    "Band",
    "Calibration",
    "Change",
    "Condition",
    "DeadLetter",
    "Drifted",
    "EarlierVerdict",
    "EarlyTest",
    "FeatureConfig",
    "Frame",
    "FrameRecord",
    "FrameRef",
    "GoldenWindow",
    "ModelMetadata",
    "ModelRef",
    "Score",
    "StatisticsReference",
    "Thresholds",
    "Verdict",
    "VerdictWord",
    "alert_id",
    "format_rfc3339",
    "frame_headers",
    "frame_id",
    "parse_frame",
    "parse_rfc3339",
    "parse_verdict",
    "verdict_id",
]
