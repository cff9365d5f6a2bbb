"""``make fleet``: what a million sensors take, and where the design breaks first (ARGS: other assumptions).

``--page docs/scale.md`` writes what is printed into that page, between its marks.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.fleet.plan import Assumptions, Plan, limits, reached_at
from benchmarks.fleet.simulation import Waits, failure, placed, waits
from benchmarks.fleet.sizes import measured

BASELINE: Final = Path(__file__).parents[1] / "baseline.json"
EVERY_S: Final = (1.0, 10.0, 60.0)
_MARKED: Final = re.compile(r"(<!-- make fleet -->\n```text\n).*?(\n```)", re.DOTALL)
_LABEL: Final = 48
_SHARED: Final = 4  # sensors of a machine, where they are not one


def stored_frames_per_second() -> float:
    """Return what one worker did in the stored run of ``make bench``."""
    return float(orjson.loads(BASELINE.read_bytes())["frames_per_second"])


def described(given: Assumptions, every_s: Sequence[float]) -> tuple[list[str], dict[str, Any]]:
    """Return the lines that tell what a fleet takes, a column for each pace, and the figures of the last column."""
    sizes = measured()
    plans = [Plan(replace(given, every_s=own), sizes) for own in every_s]
    last = plans[-1]
    frame = f"{given.frame_s:g} s at {given.rate_hz / 1000:g} kHz"
    packing = "WAV" if given.packed == 1 else "FLAC" if not given.packed else f"{given.packed:g} of a WAV"
    sized = f"a score {sizes.score} B, a state {sizes.state} B, an alert {sizes.alert} B, headers {sizes.header} B"
    worker = f"a worker does {given.worker_frames_per_second:,.0f} frames of 1 s at 16 kHz a second"
    lines = [
        f"{given.sensors:,.0f} sensors; a frame is {frame}, {packing}, {_si(last.frame_bytes)}B in Kafka.",
        f"Measured: {sized}, FLAC {sizes.flac_share:.0%} of a WAV.",
        f"Stored run: {worker} on {given.worker_cores:g} cores; it is given {given.busy:.0%}.",
        "",
        _row("a frame of each sensor every", [f"{own:g} s" for own in every_s]),
        *_counted(plans),
        "",
        *_simulated(plans),
        "",
        *_broken(plans),
    ]
    return lines, _figures(last)


def _counted(plans: Sequence[Plan]) -> list[str]:
    given = plans[0].given
    rows: list[tuple[str, Callable[[Plan], str]]] = [
        ("frames a second", lambda p: f"{p.frames_per_second:,.0f}"),
        ("workers, and their cores", lambda p: f"{p.workers:,}, {p.workers * given.worker_cores:,.0f}"),
        ("partitions of each topic", lambda p: f"{p.partitions:,}"),
        ("groups of workers, each with topics of its own", lambda p: f"{p.groups}"),
        ("… the largest that a group can be", lambda p: f"{p.largest_group} workers"),
        ("written to Kafka, of one replica", lambda p: f"{_si(p.written_bytes_per_second)}B/s"),
        ("sent by the brokers", lambda p: f"{_si(p.network_bytes_per_second)}B/s"),
        (f"frames kept {given.frames_retention_h:g} h, all replicas", lambda p: f"{_si(p.frames_bytes)}B"),
        (f"scores kept {given.scores_retention_h:g} h, all replicas", lambda p: f"{_si(p.scores_bytes)}B"),
        ("changelog of states, all replicas", lambda p: f"{_si(p.changelog_bytes)}B"),
        ("brokers", lambda p: f"{p.brokers:,}"),
        ("… for network, disk, partitions", lambda p: ", ".join(map(str, p.brokers_by.values()))),
        ("rows a second for the feature store", lambda p: _si(p.rows_per_second)),
        ("… and Redis instances for them", lambda p: f"{math.ceil(p.rows_per_second / given.redis_rows_per_second)}"),
        ("streams of a worker", lambda p: f"{p.streams_a_worker:,.0f}"),
        ("… their memory", lambda p: f"{_si(p.streams_a_worker * given.stream_bytes)}B"),
        ("… read when a worker starts", lambda p: f"{p.recovery_s:.1f} s"),
        ("one look at a model for each machine", lambda p: f"{p.look_s:,.0f} s"),
        ("series of metrics", lambda p: _si(p.series)),
    ]
    return [_row(name, [told(plan) for plan in plans]) for name, told in rows]


def _simulated(plans: Sequence[Plan]) -> list[str]:
    placements = [placed(plan) for plan in plans]
    shared = [placed(replace(plan, given=replace(plan.given, sensors_a_machine=_SHARED))) for plan in plans]
    spread = [waits(p, at, p.given.every_s) for p, at in zip(plans, placements, strict=True)]
    together = [waits(p, at, p.given.jitter_s) for p, at in zip(plans, placements, strict=True)]
    lost = [failure(plan, placement) for plan, placement in zip(plans, placements, strict=True)]
    rows = [
        ("fullest partition, of the mean (murmur2)", [f"{one.partition_skew:.2f}" for one in placements]),
        ("fullest worker, of the mean", [f"{one.worker_skew:.2f}" for one in placements]),
        (f"… with {_SHARED} sensors a machine", [f"{one.worker_skew:.2f}" for one in shared]),
        ("waits of frames that come spread: p50, p99", [_waited(one) for one in spread]),
        (f"… all within {plans[0].given.jitter_s:g} s of the clock: p50, p99", [_waited(one) for one in together]),
        ("a worker dies: its partitions stand still", [_seconds(one.still_s) for one in lost]),
        ("… frames that wait in its group then", [_si(one.waiting) for one in lost]),
        ("… the last of them answered after", [_seconds(one.still_s + one.caught_up_s) for one in lost]),
        ("… the busiest of the others is given", [f"{one.busiest:.0%}" for one in lost]),
    ]  # fmt: skip
    return ["Simulated, machine by machine:", *(_row(name, values) for name, values in rows)]


def _broken(plans: Sequence[Plan]) -> list[str]:
    """Return at how many sensors each limit is passed: first those that more machines don't help against."""
    own = [limits(plan) for plan in plans]
    reached = {
        limit.name: [reached_at(limits_[at], plan) for limits_, plan in zip(own, plans, strict=True)]
        for at, limit in enumerate(own[0])
    }
    order = sorted(own[0], key=lambda limit: reached[limit.name][-1] or math.inf)
    lines = []
    for title, design in (("The design gives way at so many sensors:", True), ("More machines help beyond:", False)):
        lines.append(title)
        for limit in order:
            if limit.design == design:
                lines.append(_row(f"  {limit.name}", [_sensors(one) for one in reached[limit.name]]))
                if any(reached[limit.name]):
                    lines.append(f"    then {limit.then}")
    return lines


def _sensors(reached: int | None) -> str:
    return "never" if reached is None else _si(reached)


def _figures(plan: Plan) -> dict[str, Any]:
    reached = {limit.name: reached_at(limit, plan) for limit in limits(plan) if limit.design}
    first = min(reached, key=lambda name: reached[name] or math.inf)
    return {
        "sensors": round(plan.given.sensors),
        "every_s": plan.given.every_s,
        "frames_per_second": round(plan.frames_per_second, 1),
        "workers": plan.workers,
        "largest_group": plan.largest_group,
        "groups": plan.groups,
        "partitions": plan.partitions,
        "brokers": plan.brokers,
        "kafka_bytes": round(plan.stored_bytes),
        "breaks_first": first,
        "breaks_first_at_sensors": reached[first],
    }


def _row(name: str, values: Sequence[str]) -> str:
    return f"{name:<{_LABEL}}" + "".join(f"{value:>20}" for value in values)


def _si(value: float) -> str:
    """Return a number with a prefix and at most three digits."""
    if not math.isfinite(value):
        return "-"
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:,.3g} P"


def _waited(one: Waits | None) -> str:
    return "more than it can" if one is None else f"{_seconds(one.p50_s)}, {_seconds(one.p99_s)}"


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"


def main(arguments: Sequence[str] | None = None) -> list[str]:
    """Print what a fleet takes, then one JSON object; return what was printed before that."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for one in fields(Assumptions):
        name, told = "--" + one.name.replace("_", "-"), one.metadata["help"]
        if one.name == "every_s":
            parser.add_argument(name, type=float, nargs="+", default=list(EVERY_S), help=f"{told}; a column for each")
        else:
            parser.add_argument(name, type=float, default=one.default, help=told)
    parser.add_argument("--page", type=Path, help="write what is printed into this page, too")
    options = vars(parser.parse_args(arguments))
    page, every_s = options.pop("page"), options.pop("every_s")
    options["worker_frames_per_second"] = options["worker_frames_per_second"] or stored_frames_per_second()
    lines, figures = described(Assumptions(**options), every_s)
    text = [line.rstrip() for line in lines]
    print("\n".join(text))
    print(orjson.dumps(figures).decode())
    if page is not None:
        page.write_text(
            _MARKED.sub(lambda found: found[1] + "\n".join(text) + found[2], page.read_text("utf-8")), "utf-8"
        )
    return text


if __name__ == "__main__":
    main()
