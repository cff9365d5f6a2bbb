"""Gates: conditions on a summary under which a replay fails, for CI jobs."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, Final, NamedTuple

from schemas.errors import SettingsError
from whirr.counts import counted

FIGURES: Final = (
    "recall", "false_alerts", "false_alerts_per_day", "auc", "auc_mean",
    "alerts", "incidents", "sensor_alerts", "delay_s_max", "delay_s_median",
    "frame_recall", "frame_false_positive_rate", "dead_letters", "late", "frames",
    "files", "realtime_factor",
)  # fmt: skip
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_GATE = re.compile(r"\s*(?P<figure>\w+)\s*(?P<compare><=|>=|==|<|>)\s*(?P<limit>[-+.\w]+)\s*")


class Gate(NamedTuple):
    """A condition such as ``recall<0.9``; a summary for which it holds fails."""

    text: str
    figure: str
    compare: str
    limit: float


def parse_gate(text: str) -> Gate:
    """Return the gate that a text such as ``false_alerts>2`` means.

    Raises:
        SettingsError: It means none.
    """
    match = _GATE.fullmatch(text)
    try:
        if match is not None and match["figure"] in FIGURES and isfinite(float(match["limit"])):
            return Gate(text.strip(), match["figure"], match["compare"], float(match["limit"]))
    except ValueError:
        pass
    raise SettingsError(
        f"--fail-if is {text!r}; expected such as recall<0.9 or false_alerts>2, with one of {', '.join(FIGURES)}"
    )


def failures(gates: Iterable[Gate], summary: Mapping[str, Any]) -> list[str]:
    """Return, for each gate that fails, why.

    Raises:
        SettingsError: A figure is not known: there are no labels, or none of a kind.
    """
    failed = []
    for gate in gates:
        value = summary[gate.figure]
        if value is None:
            raise SettingsError(f"--fail-if {gate.text}: there is no {gate.figure}; {_why(gate.figure, summary)}")
        if _COMPARE[gate.compare](value, gate.limit):
            failed.append(f"{gate.figure} is {value:.6g}: {gate.text}")
    return failed


def _why(figure: str, summary: Mapping[str, Any]) -> str:
    if figure == "realtime_factor":
        return "nothing was left to score"
    normal, anomalous = summary["normal_frames"], summary["anomalous_frames"]
    counts = f"{counted(normal, 'frame is', 'frames are')} labelled normal and {anomalous} anomaly"
    return f"{counts}, {counted(summary['faults_found'] or 0, 'fault was', 'faults were')} found"
