"""All normals of a training: windows, whole recordings, and blocks for cross-fitting."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.test_detectors import normals
from trainer.dataset import HeldOutFrame, HeldOutSet, TrainingSet
from trainer.normals import LONGEST, MAX_RECORDINGS, NormalSet, all_normals
from trainer.pooled.graphs import MaxPool
from trainer.spectrograms import Prepared

WIDTH = 12


def clips(count: int, windows: int, seed: int) -> np.ndarray:
    """Recordings of several windows each, float32 [recording, channel, band, column]."""
    parts = [normals((1, 24, WIDTH), count, seed + 100 * number) for number in range(windows)]
    return np.concatenate(parts, axis=3)


def test_it_knows_whether_recordings_were_cut() -> None:
    for windows, cut in ((4, False), (LONGEST, False), (LONGEST + 1, True)):
        data = of_clips(20, windows)
        assert all_normals(data.train, data.held_out).pieces == cut


def of_clips(count: int = 20, windows: int = 4, unseen: int = 5) -> Prepared:
    train, held_out = clips(count, windows, 0), clips(unseen, windows, 1)
    columns = train.transpose(0, 3, 1, 2).reshape(-1, 1, 24)
    size = windows * WIDTH
    frames = np.concatenate(np.split(held_out, windows, axis=3), axis=1).reshape(-1, 1, 24, WIDTH)
    places = tuple(HeldOutFrame(None, f"{i // windows}.wav", i, 1, 1) for i in range(len(frames)))
    return Prepared(
        TrainingSet(columns, tuple((i * size, size) for i in range(count)), WIDTH), HeldOutSet(frames, places)
    )


def normals_of(data: Prepared) -> NormalSet:
    return all_normals(data.train, data.held_out)


def test_few_or_short_recordings_are_judged_by_their_windows_alone():
    assert not normals_of(of_clips(count=5, unseen=2)).several
    assert not normals_of(of_clips(windows=1)).several
    assert normals_of(of_clips()).several


def test_long_recordings_are_cut_into_equal_pieces():
    found = normals_of(of_clips(count=4, windows=25))
    known = [one for one in found.recordings if one.columns == 25 * WIDTH // 3]
    assert len(known) == 12
    assert max(one.columns for one in found.recordings) <= LONGEST * WIDTH


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_however_few_recordings_there_are_each_block_is_judged_by_several_others(count: int):
    found = normals_of(of_clips(count=count))
    assert len(found.blocks) == 5
    assert np.concatenate(found.blocks).tolist() == list(range(len(found.recordings)))  # in time order
    assert all(len(block) for block in found.blocks)


def test_what_does_not_fit_into_memory_is_thinned_and_stays_in_its_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trainer.normals.MAX_RECORDINGS", 7)
    monkeypatch.setattr("trainer.normals.MAX_WINDOWS", 30)
    data = of_clips()
    found = normals_of(data)
    assert len(found.windows) == len(found.owner) == 30
    assert found.pooled(MaxPool()).shape == (7, 24)
    assert len(found.whole) == 7 < MAX_RECORDINGS
    assert np.shares_memory(found.recordings[3].parts[0], data.train.columns)


def test_windows_lie_side_by_side_in_the_recordings_that_own_them():
    found = normals_of(of_clips(count=3, windows=8))
    for number, recording in enumerate(found.recordings):
        own = np.concatenate(found.windows[found.owner == number], axis=2)
        np.testing.assert_array_equal(own, recording.spectrogram()[:, :, : own.shape[2]])
        assert recording.columns - own.shape[2] < WIDTH
