"""From bytes to samples: WAV and FLAC frames within limits, and recordings from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from schemas.frame import MAX_CHANNELS, MAX_FRAME_S, MAX_RATE_HZ, MAX_SAMPLES, MIN_FRAME_S, MIN_RATE_HZ
from stream_app.pipeline.flac import parse_flac, read_flac
from stream_app.pipeline.spectrum import SAMPLE_LIMIT
from stream_app.pipeline.tables import TABLE_SUFFIXES, read_table
from stream_app.pipeline.wav import parse_wav, read_wav
from whirr.errors import FrameRejected, RecordingError

TYPICAL_RATE_HZ = 16_000  # what models of sound compute at
RECORDING_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A decoded signal.

    Attributes:
        samples: float32 ``[channels, n]``, C order, full scale ±1; read only for callers.
        rate_hz: Samples per second and channel.
    """

    samples: NDArray[np.float32]
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.samples.shape[-1] / self.rate_hz)


def decode(value: bytes) -> Audio:
    """Return the signal of a frame: a WAV (PCM 16, 24 or 32 bit, float 32) or FLAC (16 or 24 bit) file.

    The limits of :mod:`schemas.frame` are held against the header before anything is decoded, and against what
    is decoded where the header may lie.

    Raises:
        FrameRejected: With the code that says why; every ``bytes`` value ends as a signal or in this error.
    """
    if value[:4] == b"RIFF" and value[8:12] == b"WAVE":
        return _decode_wav(value)
    if value[:4] == b"fLaC":
        return _decode_flac(value)
    if value[:4] == b"RIFX" and value[8:12] == b"WAVE":
        raise FrameRejected("encoding_unsupported", "a big-endian WAV (RIFX); expected RIFF")
    raise FrameRejected("not_audio", f"begins with {value[:12].hex(' ')!r}; expected RIFF…WAVE or fLaC")


def decode_cost(value: bytes) -> int:
    """Return how many samples a frame will cost, over all channels, by what its header says; nothing is decoded.

    A FLAC of 20 kB can hold 4,000,000 samples, and a slow signal grows when it is resampled: bytes say little of the
    work. A value that will be refused costs little; a FLAC of unknown length counts as the longest.
    """
    try:
        header = parse_flac(value) if value[:4] == b"fLaC" else parse_wav(value)
    except FrameRejected:
        return 0
    if header.frames == 0:
        return MAX_SAMPLES
    grown = max(1.0, TYPICAL_RATE_HZ / max(header.rate_hz, 1))
    return int(min(header.frames * header.channels * grown, 4 * MAX_SAMPLES))


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """What a recording holds; ``samples`` are per channel."""

    rate_hz: int
    channels: int
    samples: int


def recording_info(path: Path) -> RecordingInfo:
    """Return rate, channels and length of a recording; audio is not decoded for it.

    Raises:
        RecordingError: The file can't be read.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        samples, rate_hz = read_table(path)
        return RecordingInfo(rate_hz, *samples.shape)
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise RecordingError(f"{path}: can't be read ({str(error).split(': ', 1)[-1].strip()})") from None
    return RecordingInfo(info.samplerate, info.channels, info.frames)


def read_recording(path: Path | str) -> Audio:
    """Return the signal of a .wav, .flac, .ogg or .mp3 file of any length, or of a table of samples (.mat, .csv).

    Raises:
        RecordingError: The file can't be read, holds no samples, or a sample is NaN or infinite.
    """
    path = Path(path)
    if path.suffix.lower() not in (*RECORDING_SUFFIXES, *TABLE_SUFFIXES):
        raise RecordingError(f"{path}: suffix {path.suffix!r}; expected one of {' '.join(RECORDING_SUFFIXES)}")
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    samples, rate_hz = read_table(path) if path.suffix.lower() in TABLE_SUFFIXES else _read_audio(path)
    if samples.shape[1] == 0:
        raise RecordingError(f"{path}: holds no samples")
    if not np.isfinite(samples).all():
        raise RecordingError(f"{path}: {_first_not_finite(samples)}; expected finite samples")
    return Audio(samples, rate_hz)


def _read_audio(path: Path) -> tuple[NDArray[np.float32], int]:
    try:
        interleaved, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise RecordingError(f"{path}: can't be decoded ({error})") from None
    return np.ascontiguousarray(interleaved.T), int(rate_hz)


def _decode_wav(value: bytes) -> Audio:
    header = parse_wav(value)
    _check_format(header.rate_hz, header.channels)
    _check_length(header.rate_hz, header.channels, header.frames)
    samples = read_wav(value, header)
    if header.encoding == "f4":
        if not np.isfinite(samples).all():
            raise FrameRejected("not_finite", f"{_first_not_finite(samples)}; expected finite samples")
        # Resampling and spectra of absurd values would overflow; no sensor means them.
        np.clip(samples, -SAMPLE_LIMIT, SAMPLE_LIMIT, out=samples)
    return Audio(samples, header.rate_hz)


def _decode_flac(value: bytes) -> Audio:
    header = parse_flac(value)
    _check_format(header.rate_hz, header.channels)
    if header.frames:
        _check_length(header.rate_hz, header.channels, header.frames)
    max_frames = min(int(MAX_FRAME_S * header.rate_hz), MAX_SAMPLES // header.channels)
    samples = read_flac(value, header, max_frames)
    _check_length(header.rate_hz, header.channels, samples.shape[-1])
    return Audio(samples, header.rate_hz)


def _check_format(rate_hz: int, channels: int) -> None:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise FrameRejected("rate_unsupported", f"{rate_hz} Hz; expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    if channels > MAX_CHANNELS:
        raise FrameRejected("channels_mismatch", f"{channels} channels; expected at most {MAX_CHANNELS}")


def _check_length(rate_hz: int, channels: int, frames: int) -> None:
    """Hold ``frames`` samples per channel against the limits."""
    duration_s = frames / rate_hz
    shown = f"{frames} samples at {rate_hz} Hz are {duration_s:.4g} s"
    if duration_s < MIN_FRAME_S:
        raise FrameRejected("too_short", f"{shown}; expected at least {MIN_FRAME_S} s")
    if duration_s > MAX_FRAME_S:
        raise FrameRejected("too_long", f"{shown}; expected at most {MAX_FRAME_S:g} s")
    if frames * channels > MAX_SAMPLES:
        raise FrameRejected(
            "too_many_samples", f"{frames} samples in {channels} channels; at most {MAX_SAMPLES} in all"
        )


def _first_not_finite(samples: NDArray[np.float32]) -> str:
    channel, index = np.argwhere(~np.isfinite(samples))[0]
    return f"sample {index} of channel {channel} is {samples[channel, index]}"
