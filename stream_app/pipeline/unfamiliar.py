"""Whether a model was trained for a frame: one that was not scores it all the same, and the score means little."""

from __future__ import annotations

from schemas.condition import Condition, ConditionName
from schemas.frame import Frame
from schemas.score import Unfamiliar
from stream_app.pipeline.model import Model

LENGTH_TOLERANCE = 0.2


def unfamiliar(model: Model, frame: Frame, rate_hz: int, duration_s: float) -> tuple[Unfamiliar, ...]:
    """Return in what a frame differs from what its model was trained on.

    ``machine``: the model names the machines that it was trained on, and this is none of them; one that names none (a
    generic one) judges any. ``rate``: the recording holds nothing in the model's highest bands, since half its sample
    rate lies below them. ``length``: the frame is more than a fifth longer or shorter than those that the alert
    threshold was made for. ``condition``: the machine ran at a speed or load that the model knows nothing of.

    Args:
        model: What scores it.
        frame: Whose it is, and how the machine ran.
        rate_hz: Sample rate of the recording, before any resampling.
        duration_s: Its length.
    """
    found: list[Unfamiliar] = []
    if model.trained_on and frame.machine_id not in model.trained_on:
        found.append("machine")
    if rate_hz / 2 <= model.highest_band_from_hz:
        found.append("rate")
    calibrated_s = model.metadata.calibration.frame_s
    if abs(duration_s - calibrated_s) > LENGTH_TOLERANCE * calibrated_s:
        found.append("length")
    if _beyond(model, frame.condition):
        found.append("condition")
    return tuple(found)


def in_words(reason: Unfamiliar, model: Model, frame: Frame, rate_hz: int | None, duration_s: float) -> str:
    """Return what is unfamiliar, with the figures; ``rate_hz`` None where it is not known any more."""
    metadata = model.metadata
    if reason == "machine":
        return f"it was trained on {_named(sorted(model.trained_on))}, not on {frame.machine_id}"
    if reason == "rate":
        rate = "the recording's sample rate is" if rate_hz is None else f"recordings at {rate_hz} Hz are"
        return f"{rate} too low for its bands up to {metadata.features.fmax_hz:g} Hz"
    if reason == "condition":
        beyond = _beyond(model, frame.condition)
        return ", ".join(f"{name} {stated:g}; it knows {low:g} to {high:g}" for name, stated, low, high in beyond)
    return f"frames of {duration_s:.3g} s; it was calibrated for {metadata.calibration.frame_s:.3g} s"


def unstated(model: Model, condition: Condition) -> tuple[ConditionName, ...]:
    """Return what a model judges by and a condition doesn't tell; then the model judges without any."""
    return tuple(name for name in model.metadata.conditions if getattr(condition, name) is None)


def _beyond(model: Model, condition: Condition) -> list[tuple[str, float, float, float]]:
    """Return name, value and range of each condition that is known and out of the range learnt."""
    found: list[tuple[str, float, float, float]] = []
    for name, (low, high) in model.metadata.conditions.items():
        stated = getattr(condition, name)
        if stated is not None and not low <= stated <= high:
            found.append((name, stated, low, high))
    return found


def _named(machines: list[str]) -> str:
    shown = ", ".join(machines[:3])
    return shown if len(machines) <= 3 else f"{shown} and {len(machines) - 3} more"
