"""When which version was champion, as tags tell it."""

from __future__ import annotations

import pytest

from schemas.champion_tags import BEFORE_TAG, FROM_TAG, MOST_BEFORE, Term, term_tags, terms

NOON = 1_767_268_800_000_000  # 2026-01-01T12:00:00Z


def test_what_is_written_is_read():
    before = (Term(7, NOON - 1), Term(4, NOON - 2), Term(7, None))
    tags = term_tags(NOON, before)
    assert tags[FROM_TAG] == "2026-01-01T12:00:00.000000Z"
    assert tags[BEFORE_TAG] == "7@2026-01-01T11:59:59.999999Z 4@2026-01-01T11:59:59.999998Z 7"
    assert terms(9, tags) == (Term(9, NOON), *before)


def test_the_oldest_are_forgotten():
    many = tuple(Term(n, NOON - 100 + n) for n in range(50, 1, -1))
    _, *kept, oldest = terms(51, term_tags(NOON, many))
    assert tuple(kept) == many[: MOST_BEFORE - 1]
    assert oldest == Term(many[MOST_BEFORE - 1].version, None), "and has what was theirs"


def test_the_first_champion_has_none_before_and_one_set_by_hand_no_time():
    assert terms(1, term_tags(NOON, ())) == (Term(1, NOON),)
    assert terms(3, {"detector": "auto", BEFORE_TAG: "2"}) == (Term(3, None),)


@pytest.mark.parametrize(
    ("since", "before", "told"),
    [
        ("yesterday", "", "champion_from: 'yesterday'"),
        ("2026-01-01T12:00:00Z", "two", "'two'; expected VERSION"),
        ("2026-01-01T12:00:00Z", "2@noon", "'noon'"),
        ("2026-01-01T12:00:00Z", "2@2026-01-01T12:00:00Z", "expected a time before 2026-01-01T12:00:00.000000Z"),
        ("2026-01-01T12:00:00Z", "2 1", "'1' after a version without a time"),
    ],
)
def test_other_texts_are_named(since, before, told):
    with pytest.raises(ValueError, match=told):
        terms(3, {FROM_TAG: since, BEFORE_TAG: before})
