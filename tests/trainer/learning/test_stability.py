"""Whether a machine has shown all that it does."""

from __future__ import annotations

import numpy as np

from trainer.learning.stability import MOST_NEW, share_of_new


def _frames(count: int, level: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(level, 1.0, (count, 13))


def test_more_of_the_same_is_nothing_new() -> None:
    assert share_of_new(_frames(200)) < MOST_NEW / 2


def test_two_states_that_alternate_are_nothing_new() -> None:
    states = [_frames(20, 6.0 * (block % 2), seed=block) for block in range(10)]
    assert share_of_new(np.concatenate(states)) < MOST_NEW


def test_a_state_that_comes_at_the_end_is_new() -> None:
    values = np.concatenate([_frames(180), _frames(20, 6.0)])
    assert share_of_new(values) > 0.3


def test_what_is_not_known_of_frames_does_not_count() -> None:
    values = _frames(200)
    values[:, :5] = np.nan
    assert share_of_new(values) < MOST_NEW


def test_nothing_heard_is_all_new() -> None:
    assert share_of_new(np.zeros((0, 13))) == 1.0
