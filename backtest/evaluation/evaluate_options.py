"""What an evaluation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from recordings import KINDS
from recordings.naming import Naming
from schemas.frame import MAX_FRAME_S, MIN_FRAME_S
from whirr.options import option
from whirr.recording_options import Columns, Labels, Machine, OnError, PathPattern, Zone

_RULE, _OUTPUT = "Alert rule", "Output"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, and how."""

    folder: Annotated[
        Path, option(f"labelled recordings ({KINDS}); DIR/<machine>/… names machines", argument=True, metavar="DIR")
    ]
    model: Annotated[Path, option("the model file")]
    labels: Labels = None
    zone: Zone = "UTC"
    machine: Machine = None
    pattern: PathPattern = None
    columns: Columns = ()
    on_error: Annotated[OnError, option("what to do with files that have no label or can't be used", "Data")] = "skip"
    frame_s: Annotated[
        float | None,
        option(
            "cut recordings into frames of so many seconds; default: as the model was calibrated",
            _RULE,
            ge=MIN_FRAME_S,
            le=MAX_FRAME_S,
        ),
    ] = None
    every_s: Annotated[
        float | None, option("seconds from one recording's start to the next one's; default: back to back", _RULE)
    ] = None
    use_routes: Annotated[
        bool, option("take the alert rule from the routes in whirr.toml, not from the model", _RULE, name="routes")
    ] = False
    resamples: Annotated[
        int,
        option("resamples behind the confidence intervals; 0 for none", _OUTPUT, name="bootstrap", ge=0),
    ] = 1000
    seed: Annotated[int, option("of the bootstrap", _OUTPUT, ge=0)] = 0

    @property
    def naming(self) -> Naming:
        """How the recordings are to be understood."""
        return Naming(machine=self.machine, pattern=self.pattern, labels=self.labels, zone=self.zone)
