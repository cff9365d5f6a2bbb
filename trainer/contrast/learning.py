"""How the embedding is trained: machines and transformed spectra as classes, healthy variation within them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainer.contrast.torch_model import Embedding, Layer, SubClusterAdaCos
from trainer.graph import Float32
from trainer.lightning_model import seeded

Int = NDArray[np.int64]

PASSES: Final = 8  # over the windows
LEAST_STEPS: Final = 120
BATCH: Final = 64
RATE: Final = 2e-3  # the highest learning rate, a third of the way
MIXED: Final = 0.5  # of the spectra of a batch
HEALTHY_STD: Final = 0.3  # nat: of a level, and of a tilt from the middle to either end, that are no fault
SHIFT: Final = 12  # of the bands, one in so many: further than a speed varies
GROUPS: Final = 8  # of neighbouring bands, that change places
REARRANGED: Final = 4
MIN_STD: Final = 0.1  # nat


def rearrangements(bands: int, random: torch.Generator) -> Tensor:
    """Return which bands make up a spectrum of each class, int64 ``[class, band]``; the first is left as it is.

    Four move the spectrum up or down, and the band at the end fills what becomes empty; four let groups of bands change
    places. None is a level, a tilt or a small change of speed: those are what a healthy machine does.
    """
    places = torch.arange(bands)
    step = max(2, bands // SHIFT)
    shifts = [(places - step * many).clamp(0, bands - 1) for many in (1, -1, 2, -2)]
    groups = places.tensor_split(GROUPS)
    orders = [torch.randperm(GROUPS, generator=random).tolist() for _ in range(REARRANGED)]
    return torch.stack([places, *shifts, *(torch.cat([groups[index] for index in order]) for order in orders)])


def varied(spectra: Tensor, random: torch.Generator) -> Tensor:
    """Return spectra ``[window, channel, band]`` at another level and tilt, which are of no other class."""
    level, tilt = (HEALTHY_STD * torch.randn(2, len(spectra), 1, 1, generator=random)).unbind()
    return spectra + level + tilt * torch.linspace(-1, 1, spectra.shape[2])


def trained(spectra: Float32, machines: Int, seed: int) -> tuple[Float32, Float32, list[Layer]]:
    """Train an embedding of mean spectra.

    Args:
        spectra: float32 ``[window, channel, band]``.
        machines: Whose each is, int64 ``[window]``, from 0.
        seed: Of weights, classes, order and variation.

    Returns:
        Mean and standard deviation that spectra are standardised by, float32 ``[channel, band]``, and the layers: see
        :meth:`trainer.contrast.torch_model.Embedding.layers`.
    """
    random = torch.Generator().manual_seed(seed)
    given, owners = torch.from_numpy(spectra), torch.from_numpy(machines)
    mean, std = given.mean(dim=0), _std_within(given, owners)
    kinds = rearrangements(spectra.shape[2], random)
    classes = (int(owners.max()) + 1) * len(kinds)
    embedding: Any = seeded(lambda: Embedding(mean.numel()), seed)
    loss_of = seeded(lambda: SubClusterAdaCos(classes), seed)
    steps = max(LEAST_STEPS, PASSES * len(given) // BATCH)
    optimizer = torch.optim.Adam(embedding.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for _ in range(steps):
        drawn = torch.randint(len(given), (BATCH,), generator=random)
        kind = torch.randint(len(kinds), (BATCH,), generator=random)
        made = varied(given[drawn], random).take_along_dim(kinds[kind].unsqueeze(1), dim=2)
        shares = functional.one_hot(owners[drawn] * len(kinds) + kind, classes).float()
        vectors, shares = mixed(((made - mean) / std).flatten(1), shares, random)
        loss = loss_of(embedding(vectors), shares)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return mean.numpy(), std.numpy(), embedding.eval().layers()


def mixed(vectors: Tensor, shares: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return vectors and their shares in the classes, about half of them mixed with others (mixup)."""
    other = torch.randperm(len(vectors), generator=random)
    weight, chance = torch.rand(2, len(vectors), 1, generator=random)
    weight = torch.where(chance < MIXED, weight, 1.0)
    return vectors.lerp(vectors[other], 1 - weight), shares.lerp(shares[other], 1 - weight)


def _std_within(spectra: Tensor, machines: Tensor) -> Tensor:
    """Return how far each band varies within a machine: between machines it may be far more, and hide that."""
    variances = [spectra[machines == one].var(dim=0, correction=0) for one in range(int(machines.max()) + 1)]
    return torch.stack(variances).mean(dim=0).sqrt().clamp(min=MIN_STD)
