"""The report of a replay: what the page of it shows."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from markupsafe import Markup
from numpy.typing import NDArray

from backtest.alerting import runs
from backtest.recording_metrics import auc
from backtest.report import charts
from backtest.report.moments import Moment, moment
from backtest.report.page import Tile, render, write_page
from backtest.streams import ANOMALY, BEGINNING, LABELS, SCORED, UNKNOWN, ScoredStream, read_streams
from backtest.words import bands, delay
from schemas import Band
from schemas.errors import RecordingError
from schemas.times import parse_rfc3339
from stream_app.pipeline import Router
from whirr.counts import counted
from whirr.durations import as_duration
from whirr.terminal import printable

MOMENTS: Final = 24  # a page of some megabytes, which a phone can open
SHOWN_POINTS: Final = 3000  # of one stream; a screen is no wider
_LISTED: Final = 200
_MS: Final = 1000

SentAlert = Mapping[str, Any]  # as a worker sends it


@dataclass(frozen=True, slots=True)
class ReplayResults:
    """A folder of results, read.

    Attributes:
        streams: In the order of machines.
        alerts: As a worker sends them.
        summary: The figures.
    """

    streams: list[ScoredStream]
    alerts: list[dict[str, Any]]
    summary: Mapping[str, Any]


def read_results(folder: Path) -> ReplayResults:
    """Return what ``whirr replay --out`` wrote.

    Raises:
        RecordingError: A file of it is missing or can't be read.
    """
    try:
        alerts = [orjson.loads(line) for line in (folder / "alerts.jsonl").read_bytes().splitlines()]
        summary = orjson.loads((folder / "summary.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise RecordingError(f"{str(folder)!r} holds no whole replay ({error}); expected what --out wrote") from None
    return ReplayResults(read_streams(folder), alerts, summary)


def write_report(
    results: Path, recordings: Path, router: Router, path: Path, command: Sequence[str], columns: Sequence[str] = ()
) -> None:
    """Write the page of a replay; it appears complete or not at all.

    Args:
        results: What ``whirr replay --out`` wrote.
        recordings: The folder that was replayed.
        router: The routes with their models, as they were replayed.
        path: The HTML file.
        command: What the replay was asked, to be shown.
        columns: Of tables: the columns that were taken as channels; empty: those that look like a signal.

    Raises:
        RecordingError: The results or a recording can't be read.
        SettingsError: The page can't be written.
    """
    replayed = read_results(results)
    streams = {(stream.machine, stream.source): stream for stream in replayed.streams}
    wanted = moments_wanted(replayed.alerts, MOMENTS)
    moments = []
    for alert in wanted:
        stream = streams[alert["machine_id"], alert["source"] or ""]
        model = router.find(stream.machine).loaded
        if model is not None:
            moments.append(moment(alert, stream, model, recordings, columns))
    write_page(path, replay_page(replayed, [one for one in moments if one is not None], len(wanted), command))


def replay_page(replayed: ReplayResults, moments: Sequence[Moment], wanted: int, command: Sequence[str]) -> str:
    """Return the page.

    Args:
        replayed: What the replay wrote.
        moments: The signal around alerts, in the order of the page.
        wanted: For how many alerts it was looked for.
        command: What the replay was asked.
    """
    summary, when = replayed.summary, When.of(replayed.summary)
    opening = sorted(
        (alert for alert in replayed.alerts if alert["state"] in BEGINNING),
        key=lambda alert: parse_rfc3339(alert["recorded_at"]),
    )
    machines: dict[str, list[ScoredStream]] = {}
    for stream in replayed.streams:
        machines.setdefault(stream.machine, []).append(stream)
    # Those that alerted first: a plant's page is long.
    alerted = {alert["machine_id"] for alert in opening}
    elapsed = when.zero_us is not None

    def shown(name: str) -> tuple[str, list[tuple[str, dict[str, Any]]], list[tuple[Moment, Markup, str]]]:
        courses = [(one.source, course(one, replayed.alerts, elapsed=elapsed)) for one in machines[name]]
        own = [one for one in moments if one.alert["machine_id"] == name]
        return name, courses, [(one, charts.moment(one), base64.b64encode(one.sound).decode()) for one in own]

    return render(
        "replay.html",
        title=f"Replay of {summary.get('folder', 'frames')}",
        tiles=_tiles(summary),
        when=when,
        opening=_labelled(opening[:_LISTED], replayed.streams),
        not_listed=len(opening) - len(opening[:_LISTED]),
        shown={one.alert["alert_id"] for one in moments},
        whose=lambda alert: ", ".join(filter(None, (alert["machine_id"], alert["source"]))),
        cause=cause,
        machines=[shown(name) for name in sorted(machines, key=lambda name: name not in alerted)],
        left_out=len(opening) - wanted,
        roc=_roc(replayed.streams),
        command=shlex.join(command),
        facts=_facts(summary, when),
    )


@dataclass(frozen=True, slots=True)
class When:
    """How the page tells times: as they are, or as what has passed where their dates are made up.

    Attributes:
        zero_us: The made-up start, microseconds since the epoch; None where times are those of the recordings.
    """

    zero_us: int | None

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> When:
        """Return how a replay's times are told."""
        made_up = summary.get("times") == "pace" and summary["recorded_from"]
        return cls(parse_rfc3339(summary["recorded_from"]) if made_up else None)

    def told(self, recorded_at: str) -> str:
        """Return a time (RFC 3339) as the page shows it."""
        if self.zero_us is None:
            return recorded_at[:19].replace("T", " ")
        seconds = (parse_rfc3339(recorded_at) - self.zero_us) // 1_000_000
        days, rest = divmod(seconds, 86_400)
        return (f"{days} d " if days else "") + f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _tiles(summary: Mapping[str, Any]) -> list[Tile]:
    faults = f"{summary['faults_found']} of {summary['faults']}" if summary["faults"] else "-"
    told = f"median delay {delay(summary['delay_s_median'])}" if summary["faults"] else "no fault is labelled"
    unused = summary["dead_letters"]
    return [
        Tile(
            "files",
            f"{summary['files']:,}",
            f"{counted(summary['frames'], 'frame', spec=',')}, {as_duration(summary['audio_s'])}",
        ),
        Tile("faults found", faults, told),
        Tile(
            "false alerts",
            _count(summary["false_alerts"]),
            _incidents(summary),
        ),
        _auc_tile(summary),
        Tile("highest score", f"{summary['highest_ratio']:.3g} x", "as a multiple of its threshold"),
        Tile("not used", _count(unused), "see dead_letters.jsonl" if unused else "every frame could be used"),
    ]


def _incidents(summary: Mapping[str, Any]) -> str:
    """Return what the false alerts are of, and how many early findings are false, where there are any."""
    incidents, early = summary["incidents"], summary["early_findings"]
    told = f"of {counted(incidents, 'incident', spec=',')}"
    if not early or summary["false_early"] is None:
        return f"{told}; {counted(early, 'early finding', spec=',')}" if early else told
    return f"{told}; false early findings: {summary['false_early']:,} of {early:,}"


def _auc_tile(summary: Mapping[str, Any]) -> Tile:
    """Return the mean over machines, the worst by name: scores of different machines have no common scale."""
    by_machine = {name: one["auc"] for name, one in summary["machines"].items() if one["auc"] is not None}
    if len(summary["machines"]) < 2 or not by_machine:
        return Tile("AUC", _number(summary["auc"]), "over recordings, higher is better, 0.5 is chance")
    worst = min(by_machine, key=lambda name: by_machine[name])
    return Tile(
        f"AUC, mean of {counted(len(by_machine), 'machine')}",
        _number(summary["auc_mean"]),
        f"worst {by_machine[worst]:.3f}, {worst}; 0.5 is chance",
    )


def _labelled(alerts: Sequence[SentAlert], streams: Iterable[ScoredStream]) -> list[tuple[SentAlert, str]]:
    """Return alerts with the labels of their frames."""
    labels: dict[str, str] = {}
    for stream in streams:
        own = [alert["frame"]["frame_id"] for alert in alerts if alert["frame"] and _is_of(alert, stream)]
        labels |= {one: LABELS[stream.label[index]] for one, index in zip(own, stream.indices(own), strict=True)}
    return [(alert, labels.get((alert["frame"] or {}).get("frame_id", ""), "none")) for alert in alerts]


def cause(alert: SentAlert) -> str:
    """Return in words what drove an alert: the bands, or what is wrong with the sensor."""
    if alert["kind"] == "sensor":
        return f"the signal is {alert['sensor_fault']}"
    return bands(Band(**band) for band in alert["bands"])


def _is_of(alert: SentAlert, stream: ScoredStream) -> bool:
    return alert["machine_id"] == stream.machine and (alert["source"] or "") == stream.source


def course(stream: ScoredStream, alerts: Sequence[SentAlert], *, elapsed: bool = False) -> dict[str, Any]:
    """Return what the page's script draws of a stream; times are milliseconds, those in ``t`` from ``t0`` on.

    Args:
        stream: The stream.
        alerts: All alerts; its own are drawn.
        elapsed: Whether times are shown as what has passed since the first frame: their dates are made up.
    """
    ms, end = stream.recorded_us // _MS, int(stream.end_us[-1]) // _MS
    own = [alert for alert in alerts if alert["frame"] and _is_of(alert, stream)]
    # The frames of alerts are drawn whatever is thinned out: their marks answer the pointer.
    marked = stream.indices([alert["frame"]["frame_id"] for alert in own])
    chosen = np.union1d(thinned(stream.ratio), np.array(marked, np.int64))
    until = np.append(ms, end)
    return {
        "elapsed": elapsed,
        "t0": int(ms[0]),
        "t": (ms[chosen] - ms[0]).tolist(),
        "end": end,
        "r": [float(f"{stream.ratio[index]:.4g}") for index in chosen],
        "l": stream.label[chosen].tolist(),
        "s": stream.status[chosen].tolist(),
        "f": stream.file[chosen].tolist(),
        "o": [None if np.isnan(one) else round(one, 3) for one in stream.offset_s[chosen].tolist()],
        "files": [printable(name) for name in stream.files],
        "faults": [(int(ms[first]), int(until[last + 1])) for first, last in runs(stream.label == ANOMALY)],
        "incidents": _spans(own, end, {"opened"}, {"closed"}),
        "findings": _spans(own, end, {"opened", "changed"}, {"closed", "settled"}),
        "alerts": [
            {"ms": parse_rfc3339(one["recorded_at"]) // _MS, "state": one["state"], "severity": one["severity"]}
            for one in own
        ],
    }


def _spans(alerts: Sequence[SentAlert], end: int, begins: set[str], ends: set[str]) -> list[tuple[int, int]]:
    """Return from when to when incidents were open, by the states that begin and end that; sensors' and machines'.

    What ends in a level that is still early goes on where that counts.
    """
    opened: dict[str, int] = {}
    spans = []
    for alert in alerts:
        at = parse_rfc3339(alert["recorded_at"]) // _MS
        lasts = "changed" in begins and alert.get("level") is not None
        if alert["state"] in begins:
            opened.setdefault(alert["incident_id"], at)
        elif alert["state"] in ends and alert["incident_id"] in opened and not lasts:
            spans.append((opened.pop(alert["incident_id"]), at))
    return spans + [(since, end) for since in opened.values()]


def thinned(ratio: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return which frames of a stream are drawn: all, or of every interval the highest and the lowest."""
    if len(ratio) <= SHOWN_POINTS:
        return np.arange(len(ratio))
    chosen = {0, len(ratio) - 1}
    for first, last in pairwise(np.linspace(0, len(ratio), SHOWN_POINTS // 2 + 1).astype(int).tolist()):
        chosen |= {int(first + ratio[first:last].argmax()), int(first + ratio[first:last].argmin())}
    return np.array(sorted(chosen))


def _roc(streams: Sequence[ScoredStream]) -> Markup | None:
    """Return the ROC curve over frames with the alert threshold on it; None without frames of both labels."""
    ratio = np.concatenate([np.empty(0), *(stream.ratio for stream in streams)])
    label = np.concatenate([np.empty(0), *(stream.label for stream in streams)])
    status = np.concatenate([np.empty(0), *(stream.status for stream in streams)])
    moving = (status == SCORED) & (label != UNKNOWN)
    anomalous, ratio = label[moving] == ANOMALY, ratio[moving]
    area = auc(anomalous, ratio)
    if area is None:
        return None
    at = float((ratio[~anomalous] > 1).mean()), float((ratio[anomalous] > 1).mean())
    told = f"alert threshold: {at[1]:.0%} of anomalous, {at[0]:.2%} of normal"
    shares = "share of normal frames above", "share of anomalous frames above"
    return charts.roc(anomalous, ratio, at, told, f"ROC over frames: AUC {area:.3f}", shares=shares)


def _facts(summary: Mapping[str, Any], when: When) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for route in summary["routes"]:
        rule = f"{route['k']} of {route['n']}" if route["mode"] == "state" else "every anomalous frame"
        threshold = "the model's" if route["threshold"] is None else f"{route['threshold']:g}"
        close = f", closed after {route['m']} below {route['hysteresis']:g} of it" if route["mode"] == "state" else ""
        own = route.get("machines")
        named = f"{route['name']} version {route['version']} ({route['model']})"
        facts += [
            (
                f"machines {route['match']}",
                named if own is None else f"{route['model']}: {counted(len(own), 'machine has', 'machines have')} one",
            ),
            ("", f"alert on {rule} above {threshold} threshold{close}"),
        ]
        facts += [("", f"model file SHA-256 {one['sha256']}") for one in ([route] if own is None else own.values())]
    recorded = f"{summary['recorded_from']} to {summary['recorded_until']}"
    if when.zero_us is not None:
        recorded = f"not known; {when.told(summary['recorded_until'])} back to back"
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [
        *facts,
        ("recordings", f"data hash {summary['data_hash']}"),
        ("recorded", recorded),
        ("whirr", f"{summary['whirr']}, page written {written}"),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def moments_wanted(alerts: Iterable[SentAlert], most: int) -> list[dict[str, Any]]:
    """Return the alerts whose signal is shown: of those that opened an incident some of each machine, in turn."""
    by_machine: dict[str, list[dict[str, Any]]] = {}
    for alert in alerts:
        if alert["state"] in BEGINNING and alert["frame"]:
            by_machine.setdefault(alert["machine_id"], []).append(dict(alert))
    chosen: list[dict[str, Any]] = []
    depth = 0
    while len(chosen) < most and any(len(own) > depth for own in by_machine.values()):
        chosen += [own[depth] for own in by_machine.values() if len(own) > depth]
        depth += 1
    return chosen[:most]
