"""Evidence of a lasting shift, against a restatement of the CUSUM over the whole history."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import EarlyTest
from stream_app.pipeline.cusum import GROUPS, NEVER, Shift, group_starts, grouped, moved

SECOND_US = 1_000_000
TEST = EarlyTest(
    centre=1.0,
    scale=0.5,
    most=4.0,
    reference=1.5,
    threshold=10.0,
    false_findings_per_30_days=1.0,
    normals=100,
    correlation=0.1,
    effective_normals=80.0,
)
EXCESS = np.ones(128)
SCORES = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.75, 2.0, 2.5, 3.0, 100.0]), max_size=60)


def run(scores, settle_s=600.0):
    change = Shift()
    found = []
    for number, score in enumerate(scores):
        change = moved(change, score, grouped(EXCESS), number * SECOND_US, TEST, settle_s)
        found.append(change)
    return found


@given(SCORES)
def test_evidence_is_the_largest_sum_that_ends_now_until_it_is_enough(scores):
    increments = [(min((score - 1.0) / 0.5, 4.0) - 1.5) / 10.0 for score in scores]
    for number, change in enumerate(run(scores)):
        sums = np.cumsum(increments[number::-1])
        assert change.evidence == pytest.approx(min(max(0.0, sums.max()), 1.0), abs=1e-9)
        assert change.found == (change.evidence >= 1.0)
        if change.found:
            break
        begins = number - change.frames + 1 if change.frames else None
        assert change.since_us == (NEVER if begins is None else begins * SECOND_US)
        assert change.total == pytest.approx(sum(scores[begins : number + 1]) if change.frames else 0.0)


def test_what_is_too_weak_for_one_frame_is_found_because_it_stays():
    assert [change.found for change in run([2.3] * 12)].index(True) == 9  # 2.6 - 1.5 a frame, of 10


def test_no_single_frame_decides():
    assert not run([1.0, 1e9, 1.0, 1.0, 1.0])[-1].evidence
    assert not any(change.found for change in run([1e9, 1.0, 1.0] * 50))


def test_a_change_settles_only_after_weak_evidence_for_long():
    found = run([3.0] * 10 + [1.0] * 100, settle_s=60.0)
    last = max(number for number, change in enumerate(found) if change.found)
    strong = max(number for number, change in enumerate(found) if change.evidence >= 0.5)
    assert last == strong + 59
    assert found[last + 1] == Shift()
    assert found[last].since_us == 0  # since when it has changed, however weak the evidence is by now


def test_a_change_that_comes_and_goes_is_one():
    found = [change.found for change in run(([3.0] * 10 + [1.0] * 30) * 7, settle_s=60.0)]
    assert found[found.index(True) :] == [True] * (len(found) - found.index(True))


@pytest.mark.parametrize("bands", [1, 5, GROUPS, 17, 128])
def test_groups_of_bands_share_the_excess(bands):
    excess = np.zeros(bands)
    excess[-1] = 3.0
    excess[0] -= 1.0
    shares = grouped(excess)
    assert len(shares) == GROUPS
    assert shares.sum() == pytest.approx(1.0 if excess[-1] > 0 else 0.0)
    assert shares[len(group_starts(bands)) - 1] == shares.max()
