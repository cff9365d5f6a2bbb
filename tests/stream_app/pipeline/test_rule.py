"""The alert state machine, against a plain restatement of the rule over the whole history."""

from hypothesis import given
from hypothesis import strategies as st

from stream_app.pipeline.rule import Incident, Latch, Rule, severity_of, step

RATIOS = st.lists(st.sampled_from([0.0, 0.5, 0.89, 0.9, 0.95, 1.0, 1.01, 1.5, 1.79, 1.81, 2.0, 2.5, 9.0]), max_size=60)


@st.composite
def rules(draw):
    n = draw(st.integers(1, 8))
    return Rule(draw(st.integers(1, n)), n, draw(st.integers(1, 6)), draw(st.floats(0.5, 1.0)), 2.0)


def run(ratios, rule):
    incident, transitions = Incident(), []
    for ratio in ratios:
        incident, transition = step(incident, ratio, rule)
        transitions.append((transition, incident))
    return transitions


def held(ratios, rule):
    """For each frame whether a level is held, from the definition, looking at the whole history."""
    answer, since, on = [], 0, False
    for i in range(len(ratios)):
        if on:
            last = ratios[max(since, i - rule.m + 1) : i + 1]
            if len(last) == rule.m and all(r < rule.hysteresis for r in last):
                on, since = False, i + 1
        else:
            recent = ratios[max(since, i - rule.n + 1) : i + 1]
            if ratios[i] > 1 and sum(r > 1 for r in recent) >= rule.k:
                on, since = True, i + 1
        answer.append(on)
    return answer


@given(RATIOS, rules())
def test_latch_is_k_of_n_on_and_m_in_a_row_off(ratios, rule):
    latch, got = Latch(), []
    for ratio in ratios:
        latch = latch.updated(ratio > 1, ratio < rule.hysteresis, rule)
        got.append(latch.on)
    assert got == held(ratios, rule)


@given(RATIOS, rules())
def test_transitions_alternate_and_updates_only_while_open(ratios, rule):
    is_open, severity = False, None
    for transition, incident in run(ratios, rule):
        if transition == "opened":
            assert not is_open
            is_open, severity = True, incident.severity
        elif transition == "closed":
            assert is_open
            assert incident == Incident()
            is_open = False
        elif transition == "updated":
            assert is_open
            assert incident.severity != severity
            severity = incident.severity
        elif is_open:
            assert incident.severity == severity
        assert incident.alert.on == is_open


@given(RATIOS, rules())
def test_nothing_opens_without_k_excesses(ratios, rule):
    if sum(r > 1 for r in ratios) < rule.k:
        assert all(transition is None for transition, _ in run(ratios, rule))


def test_default_rule_opens_at_the_third_of_five_and_closes_after_five_below():
    ratios = [1.5, 0.5, 1.5, 0.5, 1.5, 0.5, 0.5, 0.95, 0.5, 0.5, 0.5, 0.5, 0.5, 1.5, 1.5]
    assert [t for t, _ in run(ratios, Rule())] == [None] * 4 + ["opened"] + [None] * 7 + ["closed"] + [None] * 2


def test_a_score_at_the_threshold_is_not_above_it():
    assert all(t is None for t, _ in run([1.0] * 20, Rule()))


def test_severity_rises_and_falls_with_hysteresis():
    transitions = run([3.0, 3.0, 3.0] + [1.5] * 5 + [3.0] * 3, Rule())
    assert [(i, t, s.severity) for i, (t, s) in enumerate(transitions) if t] == [
        (2, "opened", "critical"),
        (7, "updated", "warning"),
        (10, "updated", "critical"),
    ]


def test_critical_begins_at_its_ratio():
    assert [s.severity for _, s in run([2.0] * 3, Rule())][-1] == "critical"
    assert [s.severity for _, s in run([1.999] * 3, Rule())][-1] == "warning"


def test_severity_of_a_single_frame():
    assert severity_of(1.99, Rule()) == "warning"
    assert severity_of(2.0, Rule()) == "critical"
