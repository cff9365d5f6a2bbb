"""Encoding: without loss, in the smallest container that manages that, and never larger than a frame may be."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from recordings.encode import FileFormat, check_fits, encode
from recordings.samples import SampleKind, SignalFormat
from schemas.errors import RecordingError, SettingsError
from schemas.frame import MAX_VALUE_BYTES

DTYPES = {"pcm16": "int16", "pcm24": "int32", "pcm32": "int32", "float32": "float32"}


def _samples(kind: SampleKind, channels: int, samples: int) -> np.ndarray:
    random = np.random.default_rng(1)
    if kind == "float32":
        return random.normal(0, 2, (channels, samples)).astype(np.float32)
    bits = np.iinfo(DTYPES[kind])
    drawn = random.integers(bits.min, bits.max, (channels, samples), dtype=DTYPES[kind])
    return drawn & ~0xFF if kind == "pcm24" else drawn


@pytest.mark.parametrize("wanted", ["flac", "wav"])
@pytest.mark.parametrize("channels", [1, 3, 9])
@pytest.mark.parametrize("kind", ["pcm16", "pcm24", "pcm32", "float32"])
def test_round_trip_is_exact(kind: SampleKind, channels: int, wanted: FileFormat) -> None:
    samples = _samples(kind, channels, 500)
    encoded = encode(samples, SignalFormat(16_000, channels, kind), wanted)
    decoded, rate_hz = soundfile.read(io.BytesIO(encoded.value), dtype=DTYPES[kind], always_2d=True)
    assert rate_hz == 16_000
    assert np.array_equal(decoded.T, samples)
    as_flac = wanted == "flac" and kind in ("pcm16", "pcm24") and channels <= 8
    assert encoded.content_type == ("audio/flac" if as_flac else "audio/wav")
    assert soundfile.info(io.BytesIO(encoded.value)).format == ("FLAC" if as_flac else "WAV")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_wav_of_16_bit_is_written_as_the_library_writes_it(channels: int) -> None:
    samples, file = _samples("pcm16", channels, 500), io.BytesIO()
    soundfile.write(file, samples.T, 16_000, format="WAV", subtype="PCM_16")
    assert encode(samples, SignalFormat(16_000, channels, "pcm16"), "wav").value == file.getvalue()


@pytest.mark.parametrize("wanted", ["flac", "wav"])
@pytest.mark.parametrize(
    ("kind", "channels", "rate_hz"), [("pcm16", 1, 48_000), ("pcm24", 8, 16_000), ("pcm32", 2, 8000)]
)
def test_the_longest_frame_allowed_fits_whatever_it_holds(
    kind: SampleKind, channels: int, rate_hz: int, wanted: FileFormat
) -> None:
    signal_format = SignalFormat(rate_hz, channels, kind)
    with pytest.raises(SettingsError, match=f"a frame of 60 s at {rate_hz} Hz with {channels} channels") as refused:
        check_fits(60, signal_format)
    longest_s = float(str(refused.value).rpartition("frames to ")[2].removesuffix(" s"))
    check_fits(longest_s, signal_format)
    value = encode(_samples(kind, channels, int(longest_s * rate_hz)), signal_format, wanted).value
    assert 0.98 * MAX_VALUE_BYTES < len(value) <= MAX_VALUE_BYTES


@pytest.mark.parametrize(("rate_hz", "channels"), [(99, 1), (384_001, 1), (16_000, 0), (16_000, 65)])
def test_a_format_that_no_frame_can_have(rate_hz: int, channels: int) -> None:
    with pytest.raises(RecordingError, match=f"{channels} channels at {rate_hz} Hz"):
        SignalFormat(rate_hz, channels, "pcm16")
