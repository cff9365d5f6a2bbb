"""A recommended setting as the ``whirr.toml`` that a worker takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tomli_w

from backtest.sweep.choice import Recommendation
from whirr.settings import Route


def recommended_toml(
    choice: Recommendation, routes: Sequence[Route], thresholds: Mapping[str, float], note: str
) -> str:
    """Return the text of a ``whirr.toml``: the routes of now with the recommended setting.

    A route whose machines have one threshold, or keep the ones that they have, stays one. Otherwise each machine has a
    route with a threshold of its own, and the route itself comes after them, for machines that were not replayed.

    Args:
        choice: The recommended setting.
        routes: The routes of now, first match wins; what the setting doesn't touch stays. Each machine has one.
        thresholds: Each machine's alert threshold now.
        note: Written as a comment at the top.
    """
    here = choice.outcome.setting
    rule = {"k": here.k, "n": here.n, "m": here.m, "hysteresis": here.hysteresis}
    lines = [f"# {line}" for line in (*note.splitlines(), choice.reason)]
    left = {machine: _scaled(threshold, here.factor) for machine, threshold in thresholds.items()}
    for route in routes:
        own = {machine: left.pop(machine) for machine in list(left) if route.matches(machine)}
        if not own:  # of machines that the recordings are not of
            lines += _table(route)
            continue
        stated = None if route.threshold is None else _scaled(route.threshold, here.factor)
        changed = route.model_copy(update={**rule, "threshold": stated})
        if here.factor == 1.0:
            lines += _table(changed)
            continue
        if len(set(own.values())) == 1 and (len(own) > 1 or route.match in own):
            lines += _table(changed.model_copy(update={"threshold": next(iter(own.values()))}))
            continue
        for machine, threshold in own.items():
            lines += _table(changed.model_copy(update={"match": machine, "threshold": threshold}))
        lines += _table(changed, "other machines than those above")
    return "\n".join(lines) + "\n"


def _scaled(threshold: float, factor: float) -> float:
    return float(f"{threshold * factor:.6g}")


def _table(route: Route, note: str = "") -> list[str]:
    """Return a route as TOML: the keys that differ from their defaults, and those that the sweep chose."""
    chosen = {"match", "model", "k", "n", "m", "hysteresis", "threshold"}
    said = route.model_dump(exclude_none=True)
    table = {name: value for name, value in said.items() if name in chosen or value != Route.model_fields[name].default}
    return ["", *([f"# {note}"] if note else []), "[[route]]", tomli_w.dumps(table).rstrip()]
