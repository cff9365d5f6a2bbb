"""The metadata that a model file carries under the key ``whirr``: what it was trained on, and how to feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from schemas.condition import ConditionName
from schemas.score import Identity

# Bounds far beyond any use keep a damaged file from asking for all the memory.
Positive = Annotated[int, Field(ge=1, le=1 << 24)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
MAX_MACHINES = 100_000
MAX_NAME = 1_024  # characters of a recording's name
MAX_NOT_LEARNT = 1_000
SECONDS_IN_30_DAYS = 30 * 86_400
# Answers carry some of these, and logs and pages all.
Text = Annotated[str, Field(pattern=r"^[ -~]{1,128}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Moment = Annotated[str, Field(pattern=r"^[0-9TtZz:.+-]{1,40}$")]
Machine = Annotated[str, Field(min_length=1, max_length=128)]
Percentile = Annotated[str, Field(pattern=r"^[0-9.]{1,16}$")]
FrameScore = Literal["mean", "median"]
Percentiles = Annotated[dict[Percentile, Finite], Field(max_length=1_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig:
    """How samples become the model's input.

    Attributes:
        sample_rate_hz: Rate that the signal is resampled to.
        channels: Channels of the input; a one-channel model scores each channel of a frame.
        n_fft, hop: Samples in a spectrum and between two.
        window_function: ``hann`` (periodic).
        bands: Rows of the input.
        scale: ``mel`` (triangular filters, Slaney) or ``linear`` (equally wide filters between fmin and fmax).
        fmin_hz, fmax_hz: Edges of the lowest and the highest band.
        norm: ``slaney`` (each filter has unit area) or ``none``.
        floor: Smallest energy; the input is the natural log of max(energy, floor).
        remove_dc: Remove each channel's mean first.
        window_columns: Columns of a window (time axis ``fixed``), or of the shortest frame (``dynamic``).
        time_axis: ``fixed`` cuts a frame into windows; ``dynamic`` takes the frame as one window.
        max_columns: Columns of the longest frame that a ``dynamic`` model takes; None for ``fixed``.
    """

    sample_rate_hz: Positive = 16_000
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    n_fft: Annotated[int, Field(ge=2, le=1 << 16)] = 1024
    hop: Positive = 512
    window_function: Literal["hann"] = "hann"
    bands: Annotated[int, Field(ge=1, le=4096)] = 128
    scale: Literal["mel", "linear"] = "mel"
    fmin_hz: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    fmax_hz: PositiveFloat = 8_000.0
    norm: Literal["slaney", "none"] = "slaney"
    floor: PositiveFloat = 1e-10
    remove_dc: bool = True
    window_columns: Annotated[int, Field(ge=1, le=1 << 16)] = 30
    time_axis: Literal["fixed", "dynamic"] = "fixed"
    max_columns: Positive | None = None

    @property
    def window_s(self) -> float:
        """Length of one window of the signal in seconds."""
        return (self.n_fft + (self.window_columns - 1) * self.hop) / self.sample_rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyTest:
    """When a lasting shift of the score is an early finding: a one-sided CUSUM.

    Attributes:
        centre, scale: A score is standardised by them: the median of normals, and their standard deviation.
        most: So much of a standardised score counts at most, so that no single frame decides.
        reference: What is subtracted from it: more than normals have in the mean, on the safe side.
        threshold: The sum from which a machine has changed.
        false_findings_per_30_days: At most this many per machine, of frames that lie back to back.
        normals: Normal frames behind it, none of which the model that scored them was fitted on.
        correlation: Of successive frames, upper limit.
        effective_normals: So many independent frames would tell as much.
    """

    centre: Finite
    scale: PositiveFloat
    most: PositiveFloat
    reference: Finite
    threshold: PositiveFloat
    false_findings_per_30_days: PositiveFloat
    normals: Positive
    correlation: Annotated[float, Field(ge=0, lt=1)]
    effective_normals: PositiveFloat


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a score counts.

    Attributes:
        decision_threshold: Percentile of held-out normals; for evaluation and ``predict_anomaly``.
        alert_threshold: What the worker compares with; tail of held-out normals.
        normals: Held-out normal frames behind both.
        early: When a lasting shift is an early finding; None: never.
        no_early: Why never, or ''; models of versions before 0.3 don't say.
    """

    decision_threshold: PositiveFloat
    alert_threshold: PositiveFloat
    normals: Positive
    early: EarlyTest | None = None
    no_early: Annotated[str, Field(pattern=r"^[ -~]{0,200}$")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the alert thresholds were made for.

    Attributes:
        frame_s: Length of the frames that were scored, in seconds; others have another tail.
        every_s: Seconds from one frame's start to the next one's; None: back to back.
        k, n: The alert rule: k of n frames.
        false_alerts_per_30_days: At most this many per machine, by the method ``tail``.
        decision_percentile: Of the held-out normals' scores.
        threshold_method: ``tail`` extrapolates to the allowed false alerts; ``percentile`` takes ``alert_percentile``.
        threshold_level: What is counted: openings of the ``rule``, or each ``frame`` above the threshold.
        alert_percentile: Of the held-out normals, by the method ``percentile``, else None.
    """

    frame_s: PositiveFloat
    k: Positive
    n: Positive
    false_alerts_per_30_days: PositiveFloat
    decision_percentile: Annotated[float, Field(gt=0, lt=100)]
    threshold_method: Literal["tail", "percentile"] = "tail"
    threshold_level: Literal["rule", "frame"] = "rule"
    alert_percentile: Annotated[float, Field(ge=90, le=99)] | None = None
    every_s: PositiveFloat | None = None

    @property
    def period_s(self) -> float:
        """Seconds from one frame's start to the next one's."""
        return self.every_s or self.frame_s

    @property
    def frames_in_30_days(self) -> float:
        """Frames that a machine sends in 30 days."""
        return SECONDS_IN_30_DAYS / self.period_s


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenWindow:
    """A window whose score is known: float32, little-endian, C order, base64; checked when a model is loaded.

    Attributes:
        condition: Speed and load of its frame, None for what is not known; None for neither.
    """

    shape: tuple[Positive, Positive, Positive]  # channel, band, time
    log_mel_base64: Annotated[str, Field(max_length=1 << 25)]
    score: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    condition: tuple[Finite | None, Finite | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsReference:
    """What a machine's rolling statistics were while it was well.

    Attributes:
        rows: Rows of the feature store's history behind it.
        first_at, last_at: Event times of the first and the last of them, RFC 3339.
        percentiles: By statistic, its value at each percentile, by its number as text ("5", "50", "95", …).
    """

    rows: Positive
    first_at: Moment
    last_at: Moment
    percentiles: Annotated[dict[Word, Percentiles], Field(max_length=256)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is normal of one machine: the recordings that a model and its thresholds were learnt from.

    Attributes:
        baseline_id: 16 bytes in hex; the same for the same recordings.
        from_at, until_at: When the first of them began and the last one ended, RFC 3339; None where that isn't known.
        recordings: So many.
        hours: Their length together.
        by_state: Hours by operating state, where that is told apart.
        left_out: Recordings of the machine in that time that were not learnt, by reason.
    """

    baseline_id: Identity
    from_at: Moment | None
    until_at: Moment | None
    recordings: Positive
    hours: PositiveFloat
    by_state: Annotated[dict[Word, PositiveFloat], Field(max_length=256)] = field(default_factory=dict)
    left_out: Annotated[dict[Word, Positive], Field(max_length=64)] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLearnt:
    """A recording, or a part of one, that the model was not trained on, being unlike those before and after it.

    Attributes:
        recording: Its name.
        start_s, stop_s: Which part of it, in seconds.
        surprise: How unlike its neighbours it is, in standard deviations of what is usual between neighbours.
    """

    recording: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    start_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    stop_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    surprise: Finite


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """Everything that a worker must know of a model, besides its graph.

    Attributes:
        detector: Kind of detector, such as ``conv_ae``.
        thresholds: The pooled thresholds, for machines that have none of their own.
        machine_thresholds: By machine id.
        machines: Ids of the machines that it was trained on; empty where the recordings did not tell.
        score_percentiles: Held-out normals' score at each percentile, by its number as text ("50", "95", …).
        normal_band_error: The normal mean of ``band_error``, per channel and band.
        statistics_reference: By machine id, what its statistics were while it was well; empty unless asked for.
        conditions: By condition that the graph takes, the range in which it knows what that does; empty where it has no
            input for conditions.
        frame_score: What a frame's score is of its windows' (of the worst signal): their mean, or their median.
        not_learnt: Recordings that were left out of the training, the least usual first; at most 1,000.
        baselines: By machine id, what it was learnt from.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
    version: Text
    detector: Word
    run_id: Word | None
    data_hash: Word
    created_at: Moment
    features: FeatureConfig
    thresholds: Thresholds
    machine_thresholds: Annotated[dict[Machine, Thresholds], Field(max_length=MAX_MACHINES)]
    calibration: Calibration
    score_percentiles: Percentiles
    normal_band_error: Annotated[list[Annotated[list[Finite], Field(max_length=4096)]], Field(max_length=64)]
    golden: Annotated[list[GoldenWindow], Field(max_length=8)]
    statistics_reference: Annotated[dict[Machine, StatisticsReference], Field(max_length=MAX_MACHINES)] = field(
        default_factory=dict
    )
    machines: Annotated[tuple[Machine, ...], Field(max_length=MAX_MACHINES)] = ()
    conditions: dict[ConditionName, tuple[Finite, Finite]] = field(default_factory=dict)
    frame_score: FrameScore = "mean"
    not_learnt: Annotated[list[NotLearnt], Field(max_length=MAX_NOT_LEARNT)] = field(default_factory=list)
    baselines: Annotated[dict[Machine, Baseline], Field(max_length=MAX_MACHINES)] = field(default_factory=dict)

    def thresholds_for(self, machine_id: str) -> Thresholds:
        """Return the machine's own thresholds, else the pooled ones."""
        return self.machine_thresholds.get(machine_id, self.thresholds)
