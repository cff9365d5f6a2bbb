"""What a version that was learnt on the job carries in the registry: why it was trained, and from what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import orjson

from schemas.times import format_rfc3339, parse_rfc3339
from trainer.learning.anchor import Departure
from trainer.learning.learner import Job
from trainer.learning.machine_incidents import Unlearnable
from trainer.learning.spans import Span, merged

JOB_TAG: Final = "learn_job"
CAUSE_TAG: Final = "learn_cause"
WHY_TAG: Final = "learn_why"
FROM_TAG: Final = "learn_from"
UNTIL_TAG: Final = "learn_until"
DIRECT_TAG: Final = "learn_direct"
LEFT_OUT_TAG: Final = "learn_left_out"
COVERED_TAGS: Final = ("learn_faults_covered_challenger", "learn_faults_covered_champion")
_ANCHOR_TAGS: Final = ("learn_anchor_distance", "learn_anchor_since", "learn_anchor_per_day")
_MOST_SPANS: Final = 90  # as JSON they fit in 5,000 characters, the most that some registries' tags hold
_MOST_CHARS: Final = 1000


class LearntFrom(NamedTuple):
    """What a version's tags say of what it was learnt from.

    ``faults_covered``: the shares of the confirmed faults' frames that it and the champion of then find; None where
    there were none to test it, or no champion.
    """

    job_id: str
    baseline: Span
    left_out: tuple[Span, ...] = ()
    direct: bool = False
    faults_covered: tuple[float, float] | None = None


def learning_tags(job: Job, span: Span, departure: Departure | None) -> dict[str, str]:
    """Return what a version carries.

    Args:
        job: What it was trained for.
        span: What was learnt, with an end: the job's, or as far as the anchor goes.
        departure: From the anchor; None where there is none.
    """
    tags = {
        JOB_TAG: job.job_id,
        CAUSE_TAG: job.cause,
        DIRECT_TAG: "yes" if job.direct else "no",
        WHY_TAG: job.why[:_MOST_CHARS],
        FROM_TAG: format_rfc3339(span.from_us),
        LEFT_OUT_TAG: orjson.dumps([(*one.span, one.why) for one in bounded(job.left_out)]).decode(),
    }
    if span.until_us is not None:
        tags[UNTIL_TAG] = format_rfc3339(span.until_us)
    if departure is not None:
        since_us = departure.since_us
        texts = (f"{departure.distance:.4f}", "" if since_us is None else format_rfc3339(since_us))
        tags |= dict(zip(_ANCHOR_TAGS, (*texts, f"{departure.per_day:.4f}"), strict=True))
    return tags


def parse_learning_tags(tags: Mapping[str, str]) -> LearntFrom | None:
    """Return what a version was learnt from; None for one that a person trained.

    Raises:
        ValueError: A tag is not what :func:`learning_tags` writes.
    """
    if JOB_TAG not in tags:
        return None
    try:
        until = tags.get(UNTIL_TAG)
        span = Span(parse_rfc3339(tags[FROM_TAG]), None if until is None else parse_rfc3339(until))
        left_out = tuple(Span(from_us, until_us) for from_us, until_us, _ in orjson.loads(tags[LEFT_OUT_TAG]))
        shares = [float(tags[name]) for name in COVERED_TAGS if name in tags]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"tags {FROM_TAG}, {UNTIL_TAG}, {LEFT_OUT_TAG} and {', '.join(COVERED_TAGS)}: one can't be read: {error}"
        ) from None
    covered = (shares[0], shares[1]) if len(shares) == len(COVERED_TAGS) else None
    return LearntFrom(tags[JOB_TAG], span, left_out, tags.get(DIRECT_TAG) == "yes", covered)


def bounded(spans: Iterable[Unlearnable], most: int = _MOST_SPANS) -> list[Unlearnable]:
    """Return the same time in so many spans at most, in order; where they are more, the shortest gaps go.

    More is said to be left out then, never less. Spans of different reasons stay apart.
    """
    by_why: dict[str, list[Unlearnable]] = {}
    for one in spans:
        by_why.setdefault(one.why, []).append(one)
    apart = [Unlearnable(span, own[0].why) for own in by_why.values() for span in merged(one.span for one in own)]
    found = sorted(apart, key=lambda one: one.span.from_us)
    while len(found) > most:
        place = min(_gaps(found))[1]
        joined = Span(found[place].span.from_us, found[place + 1].span.until_us)
        found[place : place + 2] = [Unlearnable(joined, found[place].why)]
    return found


def _gaps(found: Sequence[Unlearnable]) -> Iterable[tuple[int, int]]:
    """Yield the gap after each span but the last one, and its place."""
    for place, (one, other) in enumerate(pairwise(found)):
        end_us = one.span.until_us
        yield 0 if end_us is None else other.span.from_us - end_us, place
