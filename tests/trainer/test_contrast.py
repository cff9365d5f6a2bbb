"""What contrast adds to the contract: what is a class and what is not, and several machines in one model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.test_detectors import CONFIG, SHAPES, normals, prepared
from trainer.contrast import learning
from trainer.contrast.detector import ContrastDetector
from trainer.dataset import HeldOutSet, TrainingSet
from trainer.detector import Fitted
from trainer.spectrograms import Prepared
from trainer.train import train_model

SHAPE = SHAPES["sound"]
LINES = {"pump-1": 3, "pump-2": 15}  # the band that is louder on one machine than on another
LOUDER = 3.0  # nat


def windows_of(machine: str, count: int, seed: int) -> np.ndarray:
    """Normals of one of two machines of a kind, float32 [count, *SHAPE]."""
    windows = normals(SHAPE, count, seed)
    windows[:, :, LINES[machine]] += LOUDER
    return windows


def of_plant() -> Prepared:
    """Both machines' normals."""
    one = prepared(SHAPE)
    width = SHAPE[2]
    train = np.concatenate([windows_of(machine, 120, seed) for seed, machine in enumerate(LINES)])
    held_out = np.concatenate([windows_of(machine, 40, 10 + seed) for seed, machine in enumerate(LINES)])
    columns = train.transpose(0, 3, 1, 2).reshape(-1, *SHAPE[:2])
    segments = tuple((index * width, width) for index in range(len(train)))
    owners = [machine for machine in LINES for _ in range(120)]
    frames = tuple(replace(frame, machine=list(LINES)[frame.first // 40]) for frame in one.held_out.frames)
    return Prepared(TrainingSet(columns, segments, width, tuple(owners)), HeldOutSet(held_out, frames))


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return ContrastDetector().fit(of_plant(), CONFIG, lambda _: None)


def test_all_machines_of_a_folder_are_learnt_at_once_and_told_apart(fitted: Fitted):
    assert fitted.why.startswith("2 machines")
    assert fitted.figures["machines"] == 2
    assert fitted.figures["told"] > 0.95


@pytest.mark.parametrize("machine", LINES)
def test_each_machine_is_judged_by_its_own_normals(fitted: Fitted, machine: str):
    normal = fitted.graph.score(windows_of(machine, 60, 20))[0]
    faulty = windows_of(machine, 60, 20)
    faulty[:, :, 9] += LOUDER
    strange = normals(SHAPE, 60, 20)  # neither machine's line
    limit = np.quantile(normal, 0.95)
    assert np.median(fitted.graph.score(faulty)[0]) > limit
    assert np.median(fitted.graph.score(strange)[0]) > limit
    assert np.median(normal) == pytest.approx(1, abs=0.6)  # standardised on normals of its own


def test_shares_of_bands_add_up_to_the_score(fitted: Fitted):
    score, band_error = fitted.graph.score(windows_of("pump-1", 8, 21))
    np.testing.assert_allclose(band_error.sum(axis=(1, 2)), score, rtol=1e-4)
    assert (band_error >= 0).all()


def test_classes_rearrange_bands_and_no_class_is_a_level_or_a_tilt():
    bands = 48
    classes = learning.rearrangements(bands, torch.Generator().manual_seed(0))
    assert classes.shape[0] == 1 + 4 + learning.REARRANGED
    assert classes[0].tolist() == list(range(bands))
    steady = torch.full((1, 1, bands), -7.0)
    for places in classes:  # what rearranges nothing but bands can't change the level of a flat spectrum, nor tilt it
        torch.testing.assert_close(steady[:, :, places], steady)
    moved = (classes[1:] != classes[0]).float().mean(dim=1)
    assert (moved > 0.5).all()
    for places in classes[1:5]:  # a small change of speed is no class either
        assert (places - classes[0]).abs().max() >= bands // learning.SHIFT


def test_a_level_and_a_tilt_move_the_embedding_less_than_a_shift_of_bands():
    data = of_plant()
    columns = np.asarray(data.train.columns).reshape(-1, SHAPE[2], *SHAPE[:2])
    spectra = columns.mean(axis=1)
    machines = np.repeat(np.arange(2), 120)
    mean, std, layers = learning.trained(spectra, machines, seed=0)

    def embedded(given: np.ndarray) -> np.ndarray:
        vectors = ((given - mean) / std).reshape(len(given), -1)
        for matrix, offsets in layers[:-1]:
            vectors = np.maximum(vectors @ matrix + offsets, 0)
        vectors = vectors @ layers[-1][0]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    own = embedded(spectra)
    tilt = 0.3 * np.linspace(-1, 1, SHAPE[1], dtype=np.float32)

    def moved(given: np.ndarray) -> float:
        return float(np.median(np.linalg.norm(embedded(given) - own, axis=1)))

    shifted = moved(np.roll(spectra, 2, axis=2))
    assert moved(spectra + np.float32(0.3)) < 0.5 * shifted
    assert moved(spectra + tilt) < 0.5 * shifted


def test_too_few_windows_of_a_machine_are_judged_as_pooled_spectra_and_it_says_why():
    data = of_plant()
    kept = 125  # five of them are pump-2's
    train = replace(data.train, segments=data.train.segments[:kept], machines=data.train.machines[:kept])
    found = ContrastDetector().fit(replace(data, train=train), CONFIG, lambda _: None)
    few = "5 windows of pump-2, expected at least 8"
    assert found.why == f"the whole model is pooled alone: {few}; leave it out, and the others are learnt"


@pytest.mark.slow
def test_a_folder_of_two_machines_trains_one_model_for_both(plant: Path, tmp_path: Path):
    result = train_model(replace(CONFIG, normal=plant, out=tmp_path / "m.onnx", detector="contrast"))
    assert result.detector_why.startswith("2 machines")
    assert result.metadata.machines == ("pump-1", "pump-2")
