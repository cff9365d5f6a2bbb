"""``whirr sweep``: what other numbers of the alert rule would have meant."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backtest.sweep.grid import Grid
from commands._options import takes
from commands._output import print_json, print_line
from schemas.errors import SettingsError
from whirr.outputs import check_file, replacing

if TYPE_CHECKING:
    from backtest.sweep.choice import Recommendation
    from backtest.sweep.tried_settings import TriedSetting
    from whirr.settings import Route

_OUTPUT = "Output"


@takes(Grid)
def sweep(
    grid: Grid,
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `whirr replay --out DIR` wrote.")],
    model: Annotated[
        str | None,
        typer.Option(help="Model that the recommended routes name; default: that of the routes in whirr.toml."),
    ] = None,
    max_false_alerts: Annotated[
        int, typer.Option(min=0, help="Most false alerts, in all recordings together, of the recommended setting.")
    ] = 0,
    write: Annotated[
        Path | None, typer.Option(help="Write the recommended setting as a whirr.toml.", rich_help_panel=_OUTPUT)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, every setting in it.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Try other thresholds, k of n and hysteresis on the scores of a replay, without scoring again.

    For each setting: faults found, how long after their onset, and false alerts. Printed are the settings that no other
    one beats, and the one to take. It is chosen with the labels of these recordings, so expect a little less of others.
    """
    from backtest.sweep.choice import pareto, recommend
    from backtest.sweep.load import load_scores
    from backtest.sweep.standstill import standstills
    from backtest.sweep.tried_settings import try_settings

    if write is not None:
        check_file(write, "--write")
    loaded = load_scores(folder)
    routes = _routes(loaded.thresholds, model) if write is not None else ()
    began_s = time.perf_counter()
    tried = try_settings(loaded.streams, replace(grid, factors=tuple(sorted(set(grid.factors)))), loaded.every_s)
    took_s = time.perf_counter() - began_s
    choice, front = recommend(tried, max_false_alerts), pareto(tried)
    still = standstills(loaded.streams)
    if write is not None:
        _write(write, folder, choice, loaded.thresholds, routes)
    if as_json:
        print_json(
            {
                "frames": loaded.moving,
                "left_out": loaded.left_out,
                "labelled": loaded.labelled,
                "settings": len(tried),
                "settings_per_second": round(len(tried) / took_s, 1),
                "recommended": _as_dict(choice.outcome),
                "reason": choice.reason,
                "standstills": [{**one._asdict(), "running_dbfs": one.running_dbfs} for one in still],
                "pareto": [_as_dict(one) for one in front],
                "tried": [_as_dict(one) for one in tried],
            }
        )
        return
    from commands._sweep import print_sweep

    print_sweep(loaded, choice, front, still, len(tried), took_s)
    if write is not None:
        here = write.resolve() == Path("whirr.toml").resolve()  # which is found without being named
        start = "start workers in this folder" if here else f"start workers with WHIRR_SETTINGS_FILE={write}"
        print_line(f"Written to {write}. Look through it, then {start}")


def _as_dict(tried: TriedSetting) -> dict[str, Any]:
    figures = tried.figures
    return {
        **tried.setting._asdict(),
        "faults": figures.faults,
        "found": figures.found,
        "recall": tried.recall,
        "delay_s_median": figures.delay_s_median,
        "delay_s_max": figures.delay_s_max,
        "false_alerts": figures.false_alerts,
        "false_alerts_per_machine_day": figures.false_alerts_a_day,
        "false_alerts_per_machine_day_interval": figures.false_alerts_a_day_interval,
        "open_share": figures.normal_open_share,
    }


def _routes(machines: Iterable[str], model: str | None) -> Sequence[Route]:
    """Return the routes of whirr.toml, or one with the model that is named; every machine has one."""
    from whirr.settings import Route as OwnRoute
    from whirr.settings import load_settings

    routes = (OwnRoute(model=model),) if model is not None else load_settings().route
    for machine in machines:
        if not any(route.matches(machine) for route in routes):
            raise SettingsError(f"no route in whirr.toml matches machine {machine!r}; name the model with --model")
    return routes


def _write(
    path: Path, folder: Path, choice: Recommendation, thresholds: dict[str, float], routes: Sequence[Route]
) -> None:
    from backtest.sweep.routes import recommended_toml

    note = f"Recommended by `whirr sweep {folder}`, with the labels of the recordings replayed there."
    text = recommended_toml(choice, routes, thresholds, note)
    try:
        with replacing(path, text=True) as file:
            file.write(text)
    except OSError as error:
        raise SettingsError(f"{str(path)!r} can't be written: {error.strerror}") from None
