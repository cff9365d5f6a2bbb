"""Moments: the signal around an alert, to see and to hear."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from backtest.streams import ScoredStream
from recordings import RecordingFile
from stream_app.pipeline import Model, resample

Float32 = NDArray[np.float32]
BEFORE_S: Final = 4.0
AFTER_S: Final = 2.0
MOST_FRAMES: Final = 24
_LEAST_HEARD_HZ: Final = 8000  # browsers play no slower rates
_MOST_HEARD_HZ: Final = 48_000
_PEAK: Final = 0.7
_MOST_GAIN: Final = 10.0 ** (60 / 20)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """The signal around one alert.

    Attributes:
        alert: As a worker sends it.
        log_mel: float32 [band, column], natural log of energy, mean over channels.
        seconds: How long the signal is.
        at_s: Where in it the alert's frame begins and ends.
        edges_hz: float64 [band, 2], lower and upper edge of each band.
        sound: A FLAC file of the first channel.
        gain_db: How much louder it is than the recording.
        speed: How much faster it is played than it was recorded; 1 for sound.
        name: The file that the alert's frame is in.
    """

    alert: dict[str, Any]
    log_mel: Float32
    seconds: float
    at_s: tuple[float, float]
    edges_hz: NDArray[np.float64]
    sound: bytes
    gain_db: float
    speed: float
    name: str

    @property
    def changed(self) -> str:
        """Return in words how it is played."""
        changed = [f"{self.gain_db:.0f} dB louder"] if self.gain_db >= 1 else []
        changed += [f"{self.speed:.0f} times faster"] if self.speed > 1 else []
        return f"played {' and '.join(changed)} than recorded" if changed else "played as recorded"


class SignalPlace(NamedTuple):
    """Where a frame's signal is: the file (relative to the folder), where in it, and how long, in seconds."""

    file: str
    offset_s: float
    duration_s: float


def moment(
    alert: dict[str, Any], stream: ScoredStream, model: Model, folder: Path, columns: Sequence[str] = ()
) -> Moment | None:
    """Return the moment of an alert; None where its signal isn't in a file, or too short for a spectrum.

    Args:
        alert: One with a frame.
        stream: The alert's.
        model: The alert's; its features are shown.
        folder: Of the recordings.
        columns: Of tables: the columns that were taken as channels; empty: those that look like a signal.

    Raises:
        RecordingError: A recording can't be read any more.
    """
    (index,) = stream.indices([alert["frame"]["frame_id"]])
    if np.isnan(stream.offset_s[index]):
        return None
    frame_s = float(stream.duration_s[index])
    before = min(ceil(BEFORE_S / frame_s), MOST_FRAMES * 2 // 3)
    after = min(ceil(AFTER_S / frame_s), MOST_FRAMES // 3)
    places = _places(stream, index - before, index + after)
    here = _places(stream, index, index)[0]
    pieces, rate_hz = _read(places, folder, columns)
    samples = np.concatenate(pieces, axis=1)
    config = model.metadata.features
    heard = samples if len(samples) == config.channels else samples[:1]
    resampled = resample(heard, rate_hz, config.sample_rate_hz)
    if resampled.shape[1] < config.n_fft:
        return None
    start_s = sum(piece.shape[1] for piece in pieces[: places.index(here)]) / rate_hz
    sound, gain_db, speed = _audible(samples[0], rate_hz)
    return Moment(
        alert=alert,
        log_mel=model.features.log_mel(resampled).mean(axis=0),
        seconds=samples.shape[1] / rate_hz,
        at_s=(start_s, start_s + here.duration_s),
        edges_hz=model.features.band_edges_hz,
        sound=sound,
        gain_db=gain_db,
        speed=speed,
        name=here.file,
    )


def _places(stream: ScoredStream, first: int, last: int) -> list[SignalPlace]:
    """Return where the signal of the frames from ``first`` to ``last`` is; those without one are left out."""
    return [
        SignalPlace(stream.files[stream.file[at]], float(stream.offset_s[at]), float(stream.duration_s[at]))
        for at in range(max(0, first), min(last + 1, len(stream)))
        if not np.isnan(stream.offset_s[at])
    ]


def _read(places: Sequence[SignalPlace], folder: Path, columns: Sequence[str]) -> tuple[list[Float32], int]:
    """Return the frames' samples, each float32 [channel, n], brought to the rate and channels of the last one."""
    pieces = [_read_one(folder / place.file, place, columns) for place in places]
    rate_hz, channels = pieces[-1][1], len(pieces[-1][0])
    alike = [
        resample(samples, own_hz, rate_hz) if len(samples) == channels else np.zeros((channels, 0), np.float32)
        for samples, own_hz in pieces
    ]
    return alike, rate_hz


def _read_one(path: Path, place: SignalPlace, columns: Sequence[str]) -> tuple[Float32, int]:
    with RecordingFile(path, columns) as recording:
        rate_hz = recording.info.rate_hz
        samples = recording.floats(round(place.offset_s * rate_hz), round(place.duration_s * rate_hz))
    return samples, rate_hz


def _audible(samples: Float32, rate_hz: int) -> tuple[bytes, float, float]:
    """Return a signal (float32 [n]) as a FLAC file that can be heard, its gain in dB, and how much faster it is.

    Vibration of few samples a second is played faster: what is slow is felt, not heard.
    """
    centred = samples - samples.mean()
    peak = float(np.abs(centred).max())
    gain = min(_PEAK / peak, _MOST_GAIN) if peak > 0 else 1.0
    speed = max(1.0, _LEAST_HEARD_HZ / rate_hz)
    played_hz = round(rate_hz * speed)
    loud = (centred * np.float32(gain))[np.newaxis]
    if played_hz > _MOST_HEARD_HZ:
        loud, played_hz = resample(loud, played_hz, _MOST_HEARD_HZ), _MOST_HEARD_HZ
    file = io.BytesIO()
    soundfile.write(file, np.clip(loud[0], -1, 1), played_hz, format="FLAC", subtype="PCM_16")
    return file.getvalue(), 20 * float(np.log10(gain)), speed
