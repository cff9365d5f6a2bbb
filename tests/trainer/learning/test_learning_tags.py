"""What a version carries in the registry of what it was learnt from."""

from __future__ import annotations

import pytest

from tests.trainer.learning.jobs import at, job
from trainer.learning.anchor import Departure
from trainer.learning.learning_tags import bounded, learning_tags, parse_learning_tags
from trainer.learning.machine_incidents import Unlearnable
from trainer.learning.spans import Span, any_holds


def test_what_is_written_is_read():
    fault = Unlearnable(Span(at(5), None), "fault")
    incident = Unlearnable(Span(at(1), at(2)), "incident")
    one = job(9, fault, incident, direct=True)
    tags = learning_tags(one, Span(at(0), at(7)), Departure(4.0, at(7), 0.5))
    learnt = parse_learning_tags(tags)
    assert (learnt.job_id, learnt.baseline, learnt.direct) == (one.job_id, Span(at(0), at(7)), True)
    assert learnt.left_out == (incident.span, fault.span)
    assert (tags["learn_anchor_distance"], tags["learn_cause"]) == ("4.0000", "schedule")
    assert learnt.faults_covered is None
    tested = {"learn_faults_covered_challenger": "0.2500", "learn_faults_covered_champion": "0.7500"}
    assert parse_learning_tags({**tags, **tested}).faults_covered == (0.25, 0.75)
    assert parse_learning_tags({"detector": "auto"}) is None


def test_what_whirr_did_not_write_is_refused():
    tags = learning_tags(job(9), Span(at(0)), None)
    for tag in ("learn_from", "learn_left_out"):
        with pytest.raises(ValueError, match="learn_from"):
            parse_learning_tags({**tags, tag: "[[1]]"})


def test_thousands_of_spans_fit_in_a_tag_and_all_that_was_left_out_is_said():
    many = [Unlearnable(Span(at(4 * number), at(4 * number + 1 + number % 3)), "incident") for number in range(3000)]
    tags = learning_tags(job(20_000, *many), Span(at(0)), None)
    assert len(tags["learn_left_out"]) <= 5_000
    left_out = parse_learning_tags(tags).left_out
    assert all(any_holds(left_out, one.span.from_us) for one in many)
    assert len(bounded(many, 1)) == 1
