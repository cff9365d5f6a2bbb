"""The features by name: the one list that the definitions, the worker, the history and the readers share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, NamedTuple

ENTITY: Final = "machine_id"
PUSH_SOURCE: Final = "machine_features_push"
BATCH_SOURCE: Final = "machine_features_history"
AUDIO_VIEW: Final = "machine_audio_features"
HEALTH_VIEW: Final = "machine_health"
AUDIO_SERVICE: Final = "machine_audio_v1"
HEALTH_SERVICE: Final = "machine_health_v1"
OVERVIEW_SERVICE: Final = "machine_overview_v1"

SOURCE: Final = "source"
EVENT_TIMESTAMP: Final = "event_timestamp"
CREATED_TIMESTAMP: Final = "created_timestamp"

HISTORY_VARIABLE: Final = "WHIRR_FEATURE_HISTORY"
_HISTORY_FOLDER: Final = "data/history"

Kind = Literal["float64", "int64", "string"]
AlertState = Literal["normal", "changed", "warning", "critical", "flat", "clipped", "idle", "learning"]


class FeatureField(NamedTuple):
    """One feature of a machine.

    Attributes:
        name: As in ``view:name``.
        unit: ``1`` for a plain number, '' where there is none.
        description: One sentence.
        kind: How it is stored.
    """

    name: str
    unit: str
    description: str
    kind: Kind = "float64"


AUDIO_FIELDS: Final[tuple[FeatureField, ...]] = (
    FeatureField("rms_mean", "full scale", "Root mean square of the signal, mean over time."),
    FeatureField("rms_std", "full scale", "Standard deviation over time of the root mean square."),
    FeatureField("zcr_mean", "1", "Share of neighbouring samples between which the signal changes its sign."),
    FeatureField("spectral_centroid", "Hz", "Centre of gravity of the magnitude spectrum."),
    FeatureField("spectral_bandwidth", "Hz", "Spread of the magnitude spectrum about its centroid."),
    FeatureField("spectral_rolloff", "Hz", "Frequency below which 85 % of the magnitude spectrum lies."),
    FeatureField("spectral_contrast", "dB", "Distance of peaks and valleys of the spectrum, mean over octaves."),
    *(
        FeatureField(f"mfcc_{i}", "dB", f"Mel-frequency cepstral coefficient {i} of the mel spectrum in dB.")
        for i in range(6)
    ),
)
HEALTH_FIELDS: Final[tuple[FeatureField, ...]] = (
    FeatureField("score_mean", "1", "Rolling mean of the scores of frames that were not idle, half-life 60 s."),
    FeatureField("score_max", "1", "Rolling maximum of the same scores: the highest, fading with a half-life of 60 s."),
    FeatureField("threshold_ratio", "1", "Rolling mean score divided by the alert threshold; above 1 is anomalous."),
    FeatureField("frames_seen", "1", "Frames applied to the stream since it was first seen.", "int64"),
    FeatureField("gaps", "1", "Frames that gaps in the sensor's counter say were lost.", "int64"),
    FeatureField("alert_state", "", "normal, changed, warning, critical, flat, clipped, idle or learning.", "string"),
    FeatureField("model_version", "", "Name and version of the model that scored: NAME/VERSION, NAME/none.", "string"),
    FeatureField("learning_since", "", "Since when the machine is learning, RFC 3339; else empty.", "string"),
)
FIELDS: Final = AUDIO_FIELDS + HEALTH_FIELDS
VIEWS: Final[dict[str, tuple[FeatureField, ...]]] = {AUDIO_VIEW: AUDIO_FIELDS, HEALTH_VIEW: HEALTH_FIELDS}
# Columns of the push and of the history, in this order. Times are UTC with microseconds; the source is '' for none.
COLUMNS: Final = (ENTITY, SOURCE, EVENT_TIMESTAMP, CREATED_TIMESTAMP, *(field.name for field in FIELDS))


def history_folder(repo: Path) -> Path:
    """Return the folder of the history's Parquet files: ``WHIRR_FEATURE_HISTORY`` or ``data/history``.

    Args:
        repo: The feature repository, to which a relative path belongs.
    """
    return repo.absolute() / os.environ.get(HISTORY_VARIABLE, _HISTORY_FOLDER)
