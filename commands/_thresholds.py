"""Options of ``whirr train`` that say how thresholds are made, and what they may not say together."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from schemas.errors import SettingsError

_THRESHOLDS = "Thresholds"

Percentile = Annotated[
    float, typer.Option(help="Of held-out normals: decision threshold.", rich_help_panel=_THRESHOLDS)
]
ThresholdMethod = Annotated[
    Literal["tail", "percentile"],
    typer.Option(help="Alert threshold by a fitted tail or as a percentile.", rich_help_panel=_THRESHOLDS),
]
ThresholdLevel = Annotated[
    Literal["rule", "frame"],
    typer.Option(
        help="What false alarms and percentile count: openings of the rule, or single frames.",
        rich_help_panel=_THRESHOLDS,
    ),
]
AlertPercentile = Annotated[
    float | None,
    typer.Option(
        help="Of held-out normals: alert threshold by percentile; default: 99.",
        min=90,
        max=99,
        rich_help_panel=_THRESHOLDS,
    ),
]
FalseAlerts = Annotated[
    float | None,
    typer.Option(help="Allowed false alerts per machine and 30 days; default: 1.", rich_help_panel=_THRESHOLDS),
]
FalseAlarmsPerDay = Annotated[
    float | None,
    typer.Option(help="The same per machine and day, in place of --false-alerts.", rich_help_panel=_THRESHOLDS),
]
RuleK = Annotated[
    int, typer.Option("--k", help="Frames that must exceed, of the last n.", min=1, rich_help_panel=_THRESHOLDS)
]
RuleN = Annotated[
    int, typer.Option("--n", help="Frames that the alert rule looks at.", min=1, rich_help_panel=_THRESHOLDS)
]


def allowed_per_30_days(method: str, false_alerts: float | None, per_day: float | None) -> float:
    """Return the allowed false alerts per machine and 30 days.

    Args:
        method: Of the alert threshold.
        false_alerts: As given, per 30 days.
        per_day: As given, per day.

    Raises:
        SettingsError: Both are given, or one with thresholds that are percentiles.
    """
    if false_alerts is not None and per_day is not None:
        raise SettingsError(
            f"--false-alerts is {false_alerts:g} and --false-alarms-per-day is {per_day:g}; expected one of them"
        )
    if method == "percentile" and (false_alerts is not None or per_day is not None):
        name = "--false-alerts" if per_day is None else "--false-alarms-per-day"
        raise SettingsError(f"{name} is given and --threshold-method is percentile; expected tail")
    if per_day is not None:
        return 30 * per_day
    return 1.0 if false_alerts is None else false_alerts
