"""A training's options by the names that the command line and a YAML file know them by."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import SettingsError
from trainer.job import TrainConfig

_OPTIONS = {  # where the configuration has another name
    "rate_hz": "rate",
    "decision_percentile": "percentile",
    "false_alerts_per_30_days": "false_alerts",
}


def options_of(config: TrainConfig) -> dict[str, Any]:
    """Return every option of a training as a plain value, by name; None where it is left to what suits the data."""
    fields = asdict(config)
    del fields["resume"]  # no property of a training
    fields |= fields.pop("features")
    reference_s = fields.pop("reference_s")
    fields["reference"] = None if reference_s is None else f"{reference_s:.0f}s"
    fields["columns"] = ",".join(config.columns) or None
    fields["candidates"] = ",".join(config.candidates) if config.detector == "auto" else None
    if config.threshold_method == "percentile":
        fields["false_alerts_per_30_days"] = None
    return {_OPTIONS.get(name, name): str(v) if isinstance(v, Path) else v for name, v in fields.items()}


def to_yaml(config: TrainConfig) -> str:
    """Return the options as a YAML document that ``whirr train --config`` takes."""
    text: str = yaml.safe_dump(options_of(config), sort_keys=False, allow_unicode=True)
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a YAML file says, by name, dashes in names as underscores; names without a value are left out.

    Raises:
        SettingsError: The file can't be read, or isn't a mapping of names to single values.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{str(path)!r} can't be read: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{str(path)!r} is no YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{str(path)!r} holds a {type(document).__name__}; expected lines such as 'epochs: 50'")
    for name, value in document.items():
        if isinstance(value, dict | list):
            raise SettingsError(f"{str(path)!r}: {name} is {value!r}; expected a single value")
    return {str(name).replace("-", "_"): value for name, value in document.items() if value is not None}
