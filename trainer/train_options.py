"""What a training or an extraction is told: each option declared once, for code, command line and YAML files."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from recordings import KINDS
from recordings.naming import Naming
from schemas.errors import SettingsError
from trainer.detector import CANDIDATES, DEFAULT, DETECTORS, find_detector
from whirr import options
from whirr.durations import seconds_of
from whirr.options import option
from whirr.recording_options import LISTED, Columns, Labels, Machine, OnError, PathPattern, Zone, names_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOptions:
    """What the user fixed of the features; None means whatever suits."""

    rate_hz: Annotated[int | None, option("sample rate in Hz", "Features", name="rate", ge=100)] = None
    bands: Annotated[int | None, option("frequency bands", "Features", ge=1)] = None
    n_fft: Annotated[int | None, option("samples in a spectrum", "Features", ge=16)] = None
    hop: Annotated[int | None, option("samples between two spectra", "Features", ge=1)] = None
    scale: Annotated[Literal["mel", "linear"] | None, option("scale of the bands", "Features")] = None
    window_s: Annotated[float | None, option("length of a window in seconds", "Features", ge=0.01)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions:
    """Which recordings, how they are understood, and which features are taken of them."""

    machine: Machine = None
    pattern: PathPattern = None
    columns: Columns = ()
    on_error: OnError = "skip"
    features: FeatureOptions = field(default_factory=FeatureOptions)
    frame_s: Annotated[
        float | None,
        option(
            "length in seconds of the frames that gateways send; default: 1, or the shortest recording",
            "Features",
            ge=0.1,
            le=60,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractConfig(RecordingOptions):
    """What to extract features from, and where to: see :func:`trainer.extraction.extract_features`."""

    folder: Annotated[
        Path,
        option(
            f"folder of recordings ({KINDS}); DIR/<machine>/… names the machines",
            "Data",
            argument=True,
            metavar="DIR",
        ),
    ]
    out: Annotated[Path | None, option("folder to write to; files of an earlier run are replaced", "Data")] = None
    zone: Zone = "UTC"

    @property
    def naming(self) -> Naming:
        """How the recordings are to be understood."""
        return Naming(machine=self.machine, pattern=self.pattern, zone=self.zone)


POOLINGS: Final = ("mean_std", "mean", "max", "shape", "flutter")  # over time: see trainer.pooled.graphs
HELD_OUT_SHARE: Final = 0.2
POOLING: Final = ("frame_spectrum", "frame_spectrum_ae")  # detectors that take poolings
EPOCH_OPTIONS: Final = ("epochs", "patience", "min_delta", "batch", "learning_rate", "latent")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig(RecordingOptions):
    """What to train on, and how: see :func:`trainer.train.train_model`."""

    normal: Annotated[
        Path, option(f"folder of normal recordings ({KINDS}); DIR/<machine>/… names the machines", "Data")
    ]
    out: Annotated[Path, option("the model file to write", "Data")]
    name: Annotated[
        str | None, option("the model's name; default: the file's", "Data", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    ] = None
    detector: Annotated[str, option(f"what learns: {', '.join(DETECTORS)}", "Training")] = DEFAULT
    candidates: Annotated[
        tuple[str, ...],
        option(
            f"detectors that auto combines, separated by commas; default: {','.join(CANDIDATES)}", "Training", **LISTED
        ),
    ] = CANDIDATES
    poolings: Annotated[
        tuple[str, ...],
        option(
            f"how {' and '.join(POOLING)} pool a frame over time, separated by commas; default: {', '.join(POOLINGS)}",
            "Training",
            **LISTED,
        ),
    ] = POOLINGS
    labels: Labels = None
    zone: Zone = "UTC"
    decision_percentile: Annotated[
        float, option("of held-out normals: decision threshold", "Thresholds", name="percentile", gt=0, lt=100)
    ] = 95.0
    threshold_method: Annotated[
        Literal["tail", "percentile"], option("alert threshold by a fitted tail or as a percentile", "Thresholds")
    ] = "tail"
    threshold_level: Annotated[
        Literal["rule", "frame"],
        option("what false alarms and percentile count: openings of the rule, or single frames", "Thresholds"),
    ] = "rule"
    alert_percentile: Annotated[
        float | None,
        option("of held-out normals: alert threshold by percentile; default: 99", "Thresholds", ge=90, le=99),
    ] = None
    false_alerts: Annotated[
        float | None,
        option(
            "allowed false alerts per machine and 30 days, and as many false early findings; default: 1",
            "Thresholds",
            gt=0,
        ),
    ] = None
    false_alarms_per_day: Annotated[
        float | None, option("the same per machine and day, in place of --false-alerts", "Thresholds", gt=0)
    ] = None
    every_s: Annotated[
        float | None,
        option(
            "seconds from one frame's start to the next one's, as gateways send them; default: back to back",
            "Thresholds",
            gt=0,
        ),
    ] = None
    k: Annotated[int, option("frames that must exceed, of the last n", "Thresholds", ge=1, le=64)] = 3
    n: Annotated[int, option("frames that the alert rule looks at", "Thresholds", ge=1, le=64)] = 5
    frame_score: Annotated[
        Literal["mean", "median", "auto"],
        option(
            "a frame's score, of its windows': mean, median, or auto (median where windows of normals hold bursts)",
            "Thresholds",
        ),
    ] = "mean"
    held_out_share: Annotated[
        float, option("of each machine's recordings, for thresholds and the held-out loss", "Training", gt=0, lt=1)
    ] = HELD_OUT_SHARE
    trim: Annotated[
        float,
        option(
            "share of a machine's recordings to leave out at most, for being unlike those before and after; 0: none",
            "Training",
            ge=0,
            le=0.5,
        ),
    ] = 0.1
    epochs: Annotated[int, option("conv_ae alone: passes over the data, at most", "Training", ge=1)] = 50
    patience: Annotated[
        int,
        option(
            "conv_ae alone: epochs without a better held-out loss after which to stop; 0: never before the last",
            "Training",
            ge=0,
        ),
    ] = 10
    min_delta: Annotated[
        float, option("conv_ae alone: how much lower a held-out loss must be to count as better", "Training", ge=0)
    ] = 0.0
    batch: Annotated[int, option("conv_ae alone: windows in a batch", "Training", ge=1)] = 32
    learning_rate: Annotated[float, option("conv_ae alone: of Adam", "Training", gt=0, le=1)] = 1e-3
    latent: Annotated[int, option("conv_ae alone: maps of its innermost layer (z)", "Training", ge=1, le=4096)] = 40
    accelerator: Annotated[str, option("what computes: cpu, gpu, mps … as Lightning names them", "Training")] = "auto"
    seed: Annotated[int, option("same seed, same model", "Training", ge=0, le=2**32 - 1)] = 0
    checkpoints: Annotated[
        Path | None, option("conv_ae alone: folder for last.ckpt and best.ckpt, written after each epoch", "Training")
    ] = None
    resume: Annotated[bool, option("go on from last.ckpt in the folder --checkpoints", "Training")] = False
    reference_s: Annotated[
        float | None,
        option(
            "take reference statistics of so long (7d, 12h) from the feature store's history into the model",
            "Data",
            name="reference",
            parse=seconds_of,
            show=lambda seconds: f"{seconds:.0f}s",
            gt=0,
        ),
    ] = None
    mlflow: Annotated[bool, option("log the run in MLflow", "Training")] = True
    register: Annotated[bool, option("make it the newest version of the registered model of its name", "Training")] = (
        False
    )

    @property
    def naming(self) -> Naming:
        """How the recordings are to be understood."""
        return Naming(machine=self.machine, pattern=self.pattern, labels=self.labels, zone=self.zone)

    @property
    def model_name(self) -> str:
        """The model's name: as given, else the file's without what a name may not hold."""
        return self.name or re.sub(r"[^A-Za-z0-9._-]", "-", self.out.stem)[:128] or "model"

    @property
    def false_alerts_per_30_days(self) -> float:
        """False alerts that the alert threshold allows per machine and 30 days."""
        if self.false_alarms_per_day is not None:
            return 30 * self.false_alarms_per_day
        return 1.0 if self.false_alerts is None else self.false_alerts

    def check(self) -> None:
        """Hold the options against their ranges and each other.

        Raises:
            SettingsError: One is out of range, or two contradict each other; the message names them.
        """
        options.check(self)
        if not find_detector(self.detector).by_gradient and self.checkpoints is not None:
            raise SettingsError(
                f"detector {self.detector!r} has no epochs; expected no checkpoints with it, or conv_ae"
            )
        if self.resume and self.checkpoints is None:
            raise SettingsError("resume needs the folder of checkpoints to go on from")
        self._check_candidates()
        self._check_poolings()
        if self.frame_score == "median" and find_detector(self.detector).whole_frames:
            raise SettingsError(
                f"frame_score is 'median' and detector {self.detector!r} takes a frame as one window; "
                "expected 'mean', or a detector that cuts frames into windows"
            )
        self._check_thresholds()
        if self.register and not self.mlflow:
            raise SettingsError("register needs MLflow, which is off; expected mlflow with it")

    def without_effect(self) -> tuple[str, ...]:
        """Return the options that are set, and mean nothing to a detector that doesn't learn in epochs."""
        if find_detector(self.detector).by_gradient:
            return ()
        of_epochs = (one for one in fields(self) if one.name in EPOCH_OPTIONS)
        return tuple(one.name for one in of_epochs if getattr(self, one.name) != one.default)

    def _check_thresholds(self) -> None:
        if self.k > self.n:
            raise SettingsError(f"k is {self.k}, n is {self.n}; expected k of n with k at most n")
        allowed = {"false_alerts": self.false_alerts, "false_alarms_per_day": self.false_alarms_per_day}
        given = [f"{name} is {value:g}" for name, value in allowed.items() if value is not None]
        if len(given) > 1:
            raise SettingsError(f"{' and '.join(given)}; expected one of them")
        if given and self.threshold_method == "percentile":
            raise SettingsError(f"{given[0]} and threshold_method is 'percentile'; expected 'tail'")
        if self.alert_percentile is not None and self.threshold_method != "percentile":
            raise SettingsError(
                f"alert_percentile is {self.alert_percentile:g} and threshold_method is {self.threshold_method!r}; "
                "expected 'percentile'"
            )

    def _check_poolings(self) -> None:
        names = self.poolings
        if not names or not set(names) <= set(POOLINGS) or len(set(names)) < len(names):
            raise SettingsError(
                f"poolings are {', '.join(names) or 'none'}; expected different ones of {', '.join(POOLINGS)}"
            )
        if names != POOLINGS and not set(POOLING) & {
            self.detector,
            *(self.candidates if self.detector == "auto" else ()),
        }:
            raise SettingsError(
                f"poolings are {', '.join(names)} and detector is {self.detector!r}; expected {' or '.join(POOLING)}"
            )

    def _check_candidates(self) -> None:
        names = self.candidates
        if self.detector != "auto":
            if names != CANDIDATES:
                raise SettingsError(
                    f"candidates are {', '.join(names)} and detector is {self.detector!r}; expected 'auto' with them"
                )
            return
        if not names or "auto" in names or len(set(names)) < len(names):
            raise SettingsError(f"candidates are {', '.join(names) or 'none'}; expected different ones, without auto")
        for name in names:
            try:
                find_detector(name)
            except SettingsError as error:
                raise SettingsError(f"candidates are {', '.join(names)}: {error}") from None


def options_of(config: TrainConfig) -> dict[str, Any]:
    """Return every option of a training as a plain value, by name; None where it is left to what suits the data."""
    found = options.texts(config)
    del found["resume"]  # no property of a training
    if config.detector != "auto":
        found["candidates"] = None
    return found


def to_yaml(config: TrainConfig) -> str:
    """Return the options as a YAML document that ``whirr train --config`` takes, each below its help."""
    import yaml

    helps = {option.name: option for option in options.declared(TrainConfig)}
    lines = []
    for name, value in options_of(config).items():
        limits = f" ({helps[name].range})" if helps[name].range else ""
        lines += [f"# {helps[name].help}{limits}\n", yaml.safe_dump({name: value}, allow_unicode=True)]
    return "".join(lines)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a YAML file says, by name, dashes in names as underscores; names without a value are left out.

    Raises:
        SettingsError: The file can't be read, or isn't a mapping of names to single values (or lists of names, where
            an option takes several).
    """
    import yaml

    try:
        if path.exists() and not path.is_file():
            raise SettingsError(f"{str(path)!r} is a folder, device or pipe; expected a YAML file")
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{str(path)!r} can't be read: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{str(path)!r} is no YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{str(path)!r} holds {document!r:.60}; expected lines such as 'epochs: 50'")
    # The last one would count, without a word.
    names: Any = yaml.compose(text)
    written = Counter(str(key.value).replace("-", "_") for key, _ in names.value)
    if twice := [name for name, times in written.items() if times > 1]:
        raise SettingsError(f"{str(path)!r}: {twice[0]} stands there {written[twice[0]]} times; expected once")
    values = {str(name).replace("-", "_"): value for name, value in document.items() if value is not None}
    lists = {one.name for one in options.declared(TrainConfig) if one.shown.parse is names_of}
    for name, value in values.items():
        if name in lists and isinstance(value, list) and all(isinstance(one, str) for one in value):
            values[name] = ",".join(value)
        elif isinstance(value, dict | list):
            raise SettingsError(f"{str(path)!r}: {name} is {value!r}; expected a single value")
    return values
