"""CWRU: a motor's drive-end bearing with faults of three sizes in three places, under four loads.

The recordings (.mat, acceleration in g) are laid out as WAV files of one second at 12 kHz, ±64 g full scale, of one
machine: ``cwru-drive-end/train/normal_…`` is the first half of each recording without fault, the second half and all
faulty ones are ``test``.

The faulty recordings were taken at 12 kHz. The normal ones hold 48,000 samples a second, as the place of their shaft's
harmonics shows, although they are often taken for 12 kHz. They are resampled: a detector that sees the full band of
the normal ones alone tells the two by the converter, not by the bearing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from examples.datasets.download import Download
from stream_app.pipeline import read_recording, resample

PUBLISHER: Final = "https://engineering.case.edu"
MACHINE: Final = "cwru-drive-end"
RATE_HZ: Final = 12_000
LICENCE: Final = (
    "Bearing data by the Case Western Reserve University Bearing Data Center, Cleveland. Its pages state no licence: "
    "credit it as the source, and ask it before you pass the recordings on."
)
_NORMAL_HZ: Final = 48_000
_LOADS: Final = range(4)  # horsepower
_FIRST: Final = {  # number of the file at no load; the loads follow each other
    "normal": 97,
    "inner_007": 105,
    "inner_014": 169,
    "inner_021": 209,
    "ball_007": 118,
    "ball_014": 185,
    "ball_021": 222,
    "outer_007": 130,
    "outer_014": 197,
    "outer_021": 234,
}


@dataclass(frozen=True, slots=True)
class Run:
    """One recording: which file, what is wrong with the bearing (place and thousandths of an inch), and the load."""

    number: int
    condition: str
    load_hp: int

    @property
    def normal(self) -> bool:
        """Whether nothing is wrong."""
        return self.condition == "normal"


RUNS: Final = tuple(Run(first + load, condition, load) for condition, first in _FIRST.items() for load in _LOADS)


def download_of(run: Run, publisher: str = PUBLISHER) -> Download:
    """Return the publisher's file of a recording; it gives neither size nor checksum."""
    return Download(f"{run.number}.mat", f"{publisher}/sites/default/files/{run.number}.mat")


def lay_out(downloads: Path, out: Path, run: Run) -> int:
    """Write one recording's seconds under ``out``, and return how many.

    Args:
        downloads: Folder of the .mat files.
        out: The folder of machines.
        run: Which recording.

    Raises:
        RecordingError: The file can't be read.
    """
    # The files don't state their rate; a folder named for it does.
    audio = read_recording(downloads / folder_of(run) / f"{run.number}.mat")
    samples = resample(audio.samples, audio.rate_hz, RATE_HZ)
    seconds = list(_seconds(samples))
    for index, second in enumerate(seconds):
        part = "train" if run.normal and index < len(seconds) // 2 else "test"
        label = "normal" if run.normal else f"anomaly_{run.condition}"
        path = out / MACHINE / part / f"{label}_load_{run.load_hp}_{index:03}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, second.T, RATE_HZ, format="WAV", subtype="FLOAT")
    return len(seconds)


def folder_of(run: Run) -> str:
    """Return the folder below the downloads that a recording belongs in; its name states the rate."""
    return f"{_NORMAL_HZ if run.normal else RATE_HZ}hz"


def _seconds(samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield whole seconds of a signal, float32 [channel, n]; what is left at the end is dropped."""
    for start in range(0, samples.shape[1] - RATE_HZ + 1, RATE_HZ):
        yield samples[:, start : start + RATE_HZ]
