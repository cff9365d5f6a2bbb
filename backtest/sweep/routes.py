"""A recommended setting as the ``whirr.toml`` that a worker takes."""

from __future__ import annotations

from collections.abc import Mapping

from backtest.sweep.choice import Choice
from whirr.settings import Route


def recommended_toml(choice: Choice, routes: Mapping[str, Route], thresholds: Mapping[str, float], note: str) -> str:
    """Return the text of a ``whirr.toml``: a route for each machine, since each has a threshold of its own.

    Args:
        choice: The recommended setting.
        routes: The route that each machine has now; what the setting doesn't touch stays.
        thresholds: Each machine's alert threshold now.
        note: Written as a comment at the top.
    """
    lines = [f"# {line}" for line in (*note.splitlines(), choice.reason)]
    for machine, route in routes.items():
        here = choice.outcome.setting
        changed = route.model_copy(
            update={
                "match": machine,
                "k": here.k,
                "n": here.n,
                "m": here.m,
                "hysteresis": here.hysteresis,
                "threshold": float(f"{thresholds[machine] * here.factor:.6g}"),
            }
        )
        lines += ["", "[[route]]", *_assignments(changed)]
    return "\n".join(lines) + "\n"


def _assignments(route: Route) -> list[str]:
    """Return a route's keys that differ from their defaults, as TOML, and those that the sweep chose."""
    chosen = {"match", "model", "k", "n", "m", "hysteresis", "threshold"}
    lines = []
    for name, field in Route.model_fields.items():
        value = getattr(route, name)
        if value is not None and (name in chosen or value != field.default):
            lines.append(f"{name} = {_toml(value)}")
    return lines


def _toml(value: object) -> str:
    if isinstance(value, str):
        # A TOML basic string escapes as JSON does.
        import orjson

        return orjson.dumps(value).decode()
    return str(value) if not hasattr(value, "isoformat") else value.isoformat()
