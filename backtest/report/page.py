"""The page: one HTML file that holds everything and fetches nothing."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from statistics import fmean
from typing import Any, Final

import numpy as np

from backtest.evaluation.style import STYLE
from backtest.report.moments import Moment
from backtest.report.pictures import roc, spectrogram
from backtest.report.streams import LABELS, Replayed, Stream
from schemas.times import parse_rfc3339
from whirr.html import escape, script_json
from whirr.terminal import printable

_NORMAL, _ANOMALY = LABELS.index("normal"), LABELS.index("anomaly")
_OPENING: Final = frozenset({"opened", "anomalous"})
_LISTED: Final = 200
_MS: Final = 1000
_SCRIPT: Final = "course.js"
_OWN_STYLE: Final = """
figure.course { position: relative; margin: .3rem 0 .8rem; }
figure.course canvas { display: block; touch-action: pan-y; }
figure.course canvas:focus { outline: 2px solid #2563a8; outline-offset: 2px; }
.tip { position: absolute; pointer-events: none; background: #fffffff2; border: 1px solid var(--line);
  border-radius: 6px; padding: .3rem .5rem; font-size: .78rem; max-width: 100%; overflow-wrap: anywhere; }
.key span { display: inline-block; margin-right: .9rem; white-space: nowrap; }
.key i { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .3rem;
  vertical-align: -1px; }
audio { width: 100%; margin-top: .3rem; }
.moment { border: 1px solid var(--line); border-radius: 6px; padding: .6rem; scroll-margin-top: .5rem; }
.false { color: var(--bad); font-weight: 600; }
ol.alerts { padding-left: 1.6rem; }
.alerts li { padding: .25rem 0; }
.alerts small { display: block; }
"""
_KEY: Final = (
    '<p class="key"><small><span><i style="background:#2563a8"></i>normal</span>'
    '<span><i style="background:#b3261e"></i>anomaly</span><span><i style="background:#57606a"></i>no label</span>'
    '<span><i style="background:#fdecea"></i>labelled fault</span>'
    '<span><i style="background:#e07b00"></i>alert, and while it is open</span>'
    '<span><i style="background:#2da44e"></i>closed</span></small></p>'
)


def render(replayed: Replayed, moments: Sequence[Moment], left_out: int, command: Sequence[str]) -> str:
    """Return the page.

    Args:
        replayed: What the replay wrote.
        moments: The signal around alerts, in the order of the page.
        left_out: Alerts whose moments are not shown.
        command: What the replay was asked.
    """
    summary = replayed.summary
    when = When.of(summary)
    title = f"Replay of {summary.get('folder', 'frames')}"
    shown = {moment.alert["alert_id"] for moment in moments}
    machines: dict[str, list[Stream]] = {}
    for stream in replayed.streams:
        machines.setdefault(stream.machine, []).append(stream)
    body = [
        f"<h1>{escape(title)}</h1>",
        _tiles(summary),
        _assumed(when),
        _alerts(replayed, shown, when),
        _KEY,
        *(_machine(name, machines[name], replayed, moments, when) for name in _loudest_first(machines, replayed)),
        f"<p>{left_out} more alerts: alerts.jsonl has them all.</p>" if left_out else "",
        _roc(replayed.streams),
        _reproduce(summary, command, when),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}{_OWN_STYLE}</style>'
    )
    script = (files("backtest.report") / _SCRIPT).read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{"".join(body)}\n</main>\n'
        f"<script>{script}</script></body></html>\n"
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


def _assumed(when: When) -> str:
    if when.zero_us is None:
        return ""
    return (
        '<p class="warning">The recordings do not say when they were made: they are taken back to back, in the order '
        "of their names. Times here are what has passed since the first one, in hours, minutes and seconds; the dates "
        "in scores.csv and alerts.jsonl are made up.</p>"
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    faults = f"{summary['faults_found']} of {summary['faults']}" if summary.get("faults") else "-"
    delay = summary.get("delay_s_median")
    tiles = [
        (f"{summary['files']:,}", "files", f"{summary['frames']:,} frames, {_duration(summary['audio_s'])}"),
        (faults, "faults found", "no fault is labelled" if faults == "-" else f"median delay {_duration(delay)}"),
        (_count(summary["false_alerts"]), "false alerts", f"of {summary['incidents']} incidents"),
        _auc_tile(summary),
        (f"{summary['highest_ratio']:.3g} x", "highest score", "as a multiple of its threshold"),
        (_count(summary["dead_letters"]), "not used", "see dead_letters.jsonl"),
    ]
    return '<div class="tiles">' + "".join(
        f"<div>{name}<b>{escape(value)}</b><small>{escape(note)}</small></div>" for value, name, note in tiles
    ) + "</div>"  # fmt: skip


def _auc_tile(summary: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the mean over machines, the worst by name: scores of different machines have no common scale."""
    by_machine = {name: one["auc"] for name, one in summary["machines"].items() if one["auc"] is not None}
    if len(summary["machines"]) < 2 or not by_machine:
        return _number(summary["auc"]), "AUC", "over recordings, higher is better, 0.5 is chance"
    worst = min(by_machine, key=lambda name: by_machine[name])
    below = f"worst {by_machine[worst]:.3f}, {worst}; 0.5 is chance"
    return (
        _number(fmean(by_machine.values())),
        f"AUC, mean of {len(by_machine)} machine{'s' * (len(by_machine) != 1)}",
        below,
    )


def _alerts(replayed: Replayed, shown: set[str], when: When) -> str:
    opening = [alert for alert in replayed.alerts if alert["state"] in _OPENING]
    if not opening:
        return _section("Alerts", "<p>None: no incident opened.</p>")
    labels = {(s.machine, frame_id): s.label[index] for s in replayed.streams for frame_id, index in s.index.items()}
    rows = [_alert_row(alert, labels, shown, when) for alert in opening[:_LISTED]]
    more = f"<p>And {len(opening) - _LISTED} more in alerts.jsonl.</p>" if len(opening) > _LISTED else ""
    times = "times in UTC" if when.zero_us is None else "times since the first recording began"
    return _section(f"Alerts, {times}", f'<ol class="alerts">{"".join(rows)}</ol>{more}')


def _alert_row(alert: Mapping[str, Any], labels: Mapping[tuple[str, str], int], shown: set[str], when: When) -> str:
    label = labels.get((alert["machine_id"], (alert["frame"] or {}).get("frame_id", "")))
    false = label == _NORMAL and alert["kind"] == "machine"
    at = escape(when.told(alert["recorded_at"]))
    if alert["alert_id"] in shown:
        at = f'<a href="#{escape(alert["alert_id"])}">{at}</a>'
    told = ' <span class="false">false alert</span>' if false else " labelled as anomaly" if label == _ANOMALY else ""
    ratio = "" if alert["ratio"] is None else f", {alert['ratio']:.3g} times the threshold"
    whose = f"<b>{escape(_whose(alert))}</b> {escape(alert['severity'])}{ratio}"
    return f"<li>{at} {whose}{told}<small>{escape(cause(alert))}</small></li>"


def cause(alert: Mapping[str, Any]) -> str:
    """Return in words what drove an alert: the bands, or what is wrong with the sensor."""
    if alert["kind"] == "sensor":
        return f"the signal is {alert['sensor_fault']}"
    bands = [f"{band['from_hz']:.0f} to {band['to_hz']:.0f} Hz ({band['share']:.0%})" for band in alert["bands"][:3]]
    return ", ".join(bands) or "no band stands out"


def _machine(name: str, streams: Sequence[Stream], replayed: Replayed, moments: Sequence[Moment], when: When) -> str:
    drawn = []
    for stream in streams:
        caption = f"<figcaption>sensor {escape(stream.source)}</figcaption>" if stream.source else ""
        data = script_json(course(stream, replayed.alerts, elapsed=when.zero_us is not None))
        drawn.append(
            f'<figure class="course">{caption}<canvas tabindex="0" role="img" aria-label="score of {escape(name)} over '
            f'time; arrow keys step through the frames"></canvas><div class="tip" hidden></div>'
            f'<script type="application/json">{data}</script></figure>'
        )
    own = [moment for moment in moments if moment.alert["machine_id"] == name]
    cases = f'<div class="cases">{"".join(_moment(one, when) for one in own)}</div>' if own else ""
    return _section(f"Machine {name}", f"{''.join(drawn)}{cases}")


def _loudest_first(machines: Iterable[str], replayed: Replayed) -> list[str]:
    """Return the machines, those that alerted first: a plant's page is long."""
    alerted = {alert["machine_id"] for alert in replayed.alerts if alert["state"] in _OPENING}
    return sorted(machines, key=lambda name: name not in alerted)


def course(stream: Stream, alerts: Sequence[Mapping[str, Any]], *, elapsed: bool = False) -> dict[str, Any]:
    """Return what the page's script draws of a stream; times are milliseconds, those in ``t`` from ``t0`` on.

    Args:
        stream: The stream.
        alerts: All alerts; its own are drawn.
        elapsed: Whether times are shown as what has passed since the first frame: their dates are made up.
    """
    chosen = stream.shown()
    ms = np.array(stream.recorded_us, np.int64) // _MS
    own = [
        alert
        for alert in alerts
        if alert["machine_id"] == stream.machine and (alert["source"] or "") == stream.source and alert["frame"]
    ]
    # The frames of alerts are drawn whatever is thinned out: their marks answer the pointer.
    chosen = np.unique(
        np.concatenate([chosen, [stream.index[alert["frame"]["frame_id"]] for alert in own]]).astype(int)
    )
    end = int(ms[-1] + round(stream.duration_s[-1] * _MS))
    names = [printable(name) for name in stream.files]
    return {
        "elapsed": elapsed,
        "t0": int(ms[0]),
        "t": (ms[chosen] - ms[0]).tolist(),
        "end": end,
        "r": [float(f"{stream.ratio[index]:.4g}") for index in chosen],
        "l": [stream.label[index] for index in chosen],
        "s": [stream.status[index] for index in chosen],
        "f": [stream.file[index] for index in chosen],
        "o": [_offset(stream.offset_s[index]) for index in chosen],
        "files": names,
        "faults": _faults(stream, ms, end),
        "incidents": _incidents(own, end),
        "alerts": [
            {"ms": parse_rfc3339(one["recorded_at"]) // _MS, "state": one["state"], "severity": one["severity"]}
            for one in own
        ],
    }


def _offset(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 3)


def _faults(stream: Stream, ms: Any, end: int) -> list[tuple[int, int]]:
    """Return from when to when frames are labelled as anomalous."""
    edges = np.flatnonzero(np.diff(np.array(stream.label) == _ANOMALY, prepend=False, append=False))
    until = np.append(ms, end)
    return [(int(ms[first]), int(until[last])) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _incidents(alerts: Sequence[Mapping[str, Any]], end: int) -> list[tuple[int, int]]:
    """Return from when to when incidents were open; sensors' and machines' are drawn alike."""
    opened: dict[str, int] = {}
    spans = []
    for alert in alerts:
        at = parse_rfc3339(alert["recorded_at"]) // _MS
        if alert["state"] == "opened":
            opened[alert["incident_id"]] = at
        elif alert["state"] == "closed" and alert["incident_id"] in opened:
            spans.append((opened.pop(alert["incident_id"]), at))
    return spans + [(since, end) for since in opened.values()]


def _moment(moment: Moment, when: When) -> str:
    alert = moment.alert
    sound = base64.b64encode(moment.sound).decode()
    changed = [f"{moment.gain_db:.0f} dB louder"] if moment.gain_db >= 1 else []
    changed += [f"{moment.speed:.0f} times faster"] if moment.speed > 1 else []
    note = f"played {' and '.join(changed)} than recorded" if changed else "played as recorded"
    ratio = f"{alert['ratio']:.3g} times the threshold" if alert["ratio"] is not None else ""
    return (
        f'<figure class="moment" id="{escape(alert["alert_id"])}"><figcaption><b>{escape(alert["state"])}, '
        f"{escape(alert['severity'])}</b> at {escape(when.told(alert['recorded_at']))}, {ratio}<br>"
        f"{escape(cause(alert))}<br><small>{escape(moment.name)}</small></figcaption>{spectrogram(moment)}"
        f'<audio controls preload="metadata" src="data:audio/flac;base64,{sound}"></audio>'
        f"<small>{note}; between the dashed lines the alert's frame, framed in green what drove it</small></figure>"
    )


def _roc(streams: Sequence[Stream]) -> str:
    ratio = np.concatenate([np.array(stream.ratio) for stream in streams])
    label = np.concatenate([np.array(stream.label) for stream in streams])
    moving = np.concatenate([np.array(stream.status) == 0 for stream in streams]) & (label != 0)
    anomalous = label[moving] == _ANOMALY
    if not anomalous.any() or anomalous.all():
        return ""
    drawn, _ = roc(ratio[moving], anomalous)
    told = (
        "<p><small>Every labelled frame by itself, late and idle ones aside. An alert takes several frames, so false "
        "alerts are rarer than normal frames above the threshold.</small></p>"
    )
    return _section("How well scores tell the two apart", f'<div class="charts">{drawn}</div>{told}')


def _reproduce(summary: Mapping[str, Any], command: Sequence[str], when: When) -> str:
    pairs: list[tuple[str, str]] = []
    for route in summary["routes"]:
        rule = f"{route['k']} of {route['n']}" if route["mode"] == "state" else "every anomalous frame"
        threshold = "the model's" if route["threshold"] is None else f"{route['threshold']:g}"
        close = f", closed after {route['m']} below {route['hysteresis']:g} of it" if route["mode"] == "state" else ""
        pairs += [
            (f"machines {route['match']}", f"{route['name']} version {route['version']} ({route['model']})"),
            ("", f"alert on {rule} above {threshold} threshold{close}"),
            ("", f"model file SHA-256 {route['sha256']}"),
        ]
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    pairs += [
        ("recordings", f"data hash {summary['data_hash']}"),
        ("recorded", _recorded(summary, when)),
        ("whirr", f"{summary['whirr']}, page written {written}"),
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs)
    return _section("How to reproduce", f"<pre>{escape(shlex.join(command))}</pre><dl>{rows}</dl>")


def _recorded(summary: Mapping[str, Any], when: When) -> str:
    if when.zero_us is None:
        return f"{summary['recorded_from']} to {summary['recorded_until']}"
    return f"not known; {when.told(summary['recorded_until'])} back to back"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n"


def _whose(alert: Mapping[str, Any]) -> str:
    return f"{alert['machine_id']}, {alert['source']}" if alert["source"] else str(alert["machine_id"])


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.3g} {unit}"
    return f"{seconds / 86_400:.3g} d"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def moments_wanted(alerts: Iterable[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return the alerts whose signal is shown: of those that opened an incident some of each machine, in turn."""
    by_machine: dict[str, list[dict[str, Any]]] = {}
    for alert in alerts:
        if alert["state"] in _OPENING and alert["frame"]:
            by_machine.setdefault(alert["machine_id"], []).append(dict(alert))
    chosen: list[dict[str, Any]] = []
    depth = 0
    while len(chosen) < most and any(len(own) > depth for own in by_machine.values()):
        chosen += [own[depth] for own in by_machine.values() if len(own) > depth]
        depth += 1
    return chosen[:most]
