"""Which frames are like an incident's."""

import numpy as np
import pytest

from stream_app.pipeline.incident_memory import LOUDER, RememberedIncident


def shares(*groups, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    found = noise * rng.random(16)
    found[list(groups)] += 1.0
    return found / found.sum()


def memory(*frames, ratio=2.0):
    found = RememberedIncident(incident_id="aa" * 16)
    for number, one in enumerate(frames):
        found = found.with_frame(ratio, one, number)
    return found


def test_the_same_bands_no_louder_are_like_and_others_are_not():
    tone = memory(*[shares(3)] * 20)
    assert tone.is_like(2.0, shares(3))
    assert tone.is_like(2.0 * LOUDER, shares(3, noise=0.05))
    assert not tone.is_like(2.0 * LOUDER + 0.01, shares(3))
    assert not tone.is_like(2.0, shares(4))
    assert not tone.is_like(2.0, shares(3, 9))
    assert not tone.is_like(2.0, np.zeros(16))


def test_frames_may_differ_as_much_as_the_incidents_own_do():
    weak = memory(*[shares(3, noise=1.0, seed=seed) for seed in range(60)])
    clear = memory(*[shares(3)] * 60)
    assert weak.cohesion < clear.cohesion == pytest.approx(1.0, abs=1e-3)
    others = [shares(3, noise=1.0, seed=seed) for seed in range(100, 200)]
    assert np.mean([weak.is_like(2.0, one) for one in others]) > 0.7
    assert not any(clear.is_like(2.0, one) for one in others)
    assert not any(weak.is_like(2.0, shares(9, noise=1.0, seed=seed)) for seed in range(100, 200))


def test_nothing_is_like_what_is_not_known():
    assert not RememberedIncident().is_like(0.0, shares(3))


def test_it_is_bounded_and_tells_when():
    found = memory(*[shares(number % 16) for number in range(200)])
    assert (found.first_us, found.last_us, found.frames) == (0, 199, 200)
    assert float(found.shares.sum()) == pytest.approx(1.0, abs=0.05)
    assert found.peak == 2.0
