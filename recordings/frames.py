"""A frame's bytes as samples: the reader of recordings with the stricter contract of what crosses Kafka.

WAV (RIFF, RIFX, RF64 or BW64) of PCM with 16, 24 or 32 bits or float with 32, or FLAC of 16 or 24 bits, within the
limits of :mod:`schemas.frame`.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from typing import Final, Literal

from recordings.audio import check_format, flac_unfit, undecodable, wav_unfit
from recordings.flac import is_flac, parse_flac
from recordings.magic import kind_of
from recordings.samples import Audio, Float32, as_float, first_not_finite, limited
from recordings.sndfile import ERRORS, SndFile
from recordings.sources import Value, extent
from recordings.wav import KINDS, WavHeader, is_wav, parse_wav, read_wav
from schemas.errors import FrameRejected
from schemas.frame import MAX_FRAME_S, MAX_SAMPLES, MIN_FRAME_S

TYPICAL_RATE_HZ: Final = 16_000  # what models of sound compute at
FRAME_COST: Final = 2_000  # of a frame that is refused at once; an empty one that is scored costs about as much
_DECODE_SHARE: Final = 0.25  # what decoding a sample costs, of what scoring one does


def decode(value: bytes, model_rate_hz: int | None = None) -> Audio:
    """Return the signal of a frame.

    The limits of :mod:`schemas.frame` are held against the header before anything is decoded, and against what
    is decoded where the header may lie.

    Args:
        value: The file.
        model_rate_hz: The rate that the signal will be resampled to, at which it must be within the limits too: a slow
            frame of many channels grows a hundredfold under a fast model.

    Raises:
        FrameRejected: With the code that says why; every ``bytes`` value ends as a signal or in this error.
    """
    source = Value(value)
    # Nearly all frames: a gateway's headers are all the same. What lies behind the data is looked at in others only.
    if is_wav(value[:12]) and value[36:40] == b"data" and value[-128:-125] != b"TAG":
        plain = _plain_wav(value[:44], len(value), model_rate_hz)
        if plain is not None:
            return _wav_samples(source, plain)
    begin, end = extent(source)
    head = source.read(begin, 12)
    if is_wav(head):
        return _decode_wav(source, begin, end, model_rate_hz)
    if is_flac(head):
        return _decode_flac(source, begin, end, model_rate_hz)
    kind = kind_of(source.read(begin, 4096))
    shown = f"begins with {head.hex(' ')!r}" + (f", {kind.name}" if kind else "")
    raise FrameRejected("not_audio", f"{shown}; expected WAV (RIFF…WAVE) or FLAC (fLaC)")


def container(value: bytes) -> Literal["flac", "wav", "bin"]:
    """Return which kind of file a record's value is, whatever tag comes before it; ``bin`` for what is no frame."""
    source = Value(value)
    head = source.read(extent(source)[0], 12)
    return "wav" if is_wav(head) else "flac" if is_flac(head) else "bin"


def decode_cost(value: bytes, rate_hz: int | None = TYPICAL_RATE_HZ) -> int:
    """Return what a frame will cost, in samples at the model's rate over all channels, by what its header says.

    Nothing is decoded. A FLAC of 20 kB can hold 4,000,000 samples, and a slow signal grows when it is resampled: bytes
    say little of the work. A value that will be refused costs little; a FLAC of unknown length counts as the longest.

    Args:
        value: The frame's file.
        rate_hz: The model's rate; None: the frame's own.
    """
    if value[:4] == b"RIFF" and value[36:40] == b"data":  # nearly all frames: a gateway's headers are all the same
        return _plain_wav_cost(value[:44], len(value), rate_hz)
    return _header_cost(value, rate_hz)


@lru_cache(maxsize=256)
def _plain_wav_cost(head: bytes, size: int, rate_hz: int | None) -> int:
    return _header_cost(head.ljust(size, b"\0"), rate_hz)


def _header_cost(value: bytes, rate_hz: int | None) -> int:
    source = Value(value)
    begin, end = extent(source)
    try:
        header = (parse_flac if is_flac(source.read(begin, 4)) else parse_wav)(source, begin, end)
    except FrameRejected:
        return FRAME_COST
    own_hz, channels = max(header.rate_hz, 1), max(header.channels, 1)
    rate_hz = rate_hz or own_hz
    samples = channels * (header.frames or min(MAX_FRAME_S * own_hz, MAX_SAMPLES / channels))
    scored = samples * rate_hz / own_hz
    if samples > MAX_SAMPLES or (header.frames and scored > MAX_SAMPLES):
        return FRAME_COST
    decoded = 0 if own_hz == rate_hz else samples * _DECODE_SHARE
    return FRAME_COST + int(min(scored, MAX_SAMPLES) + decoded)


def _decode_wav(source: Value, begin: int, end: int, model_rate_hz: int | None) -> Audio:
    header = parse_wav(source, begin, end)
    if unfit := wav_unfit(header):
        raise FrameRejected("encoding_unsupported", unfit)
    assert header.encoding is not None
    check_format(header.rate_hz, header.channels)
    _check_length(header.rate_hz, header.channels, header.frames, model_rate_hz)
    return _wav_samples(source, header)


@lru_cache(maxsize=256)
def _plain_wav(head: bytes, size: int, model_rate_hz: int | None) -> WavHeader | None:
    """Return the header of a WAV file that is nothing but 44 bytes of it and its data; None if there is more to see.

    None also for one that will be refused, and for 4 bytes of integers, where the samples may tell which of them count.
    """
    if len(head) < 44 or struct.unpack_from("<I", head, 40)[0] != size - len(head):
        return None
    source = Value(head.ljust(size, b"\0"))
    try:
        header = parse_wav(source)
        if header.encoding not in ("i2", "i3", "f4") or header.offset != len(head):
            return None
        check_format(header.rate_hz, header.channels)
        _check_length(header.rate_hz, header.channels, header.frames, model_rate_hz)
    except FrameRejected:
        return None
    return header


def _wav_samples(source: Value, header: WavHeader) -> Audio:
    assert header.encoding is not None
    kind = KINDS[header.encoding]
    samples = as_float(read_wav(source, header, 0, header.frames), kind)
    if kind == "float32":
        _check_finite(samples)
    return Audio(samples, header.rate_hz)


def _decode_flac(source: Value, begin: int, end: int, model_rate_hz: int | None) -> Audio:
    header = parse_flac(source, begin, end)
    if unfit := flac_unfit(header):
        raise FrameRejected("encoding_unsupported", unfit)
    check_format(header.rate_hz, header.channels)
    if header.frames:
        _check_length(header.rate_hz, header.channels, header.frames, model_rate_hz)
    # One more than allowed, so that the excess shows. What follows the samples that the header counts is not looked
    # at, as with the bytes behind a WAV's data.
    most = min(int(MAX_FRAME_S * header.rate_hz), MAX_SAMPLES // header.channels) + 1
    if model_rate_hz is not None:
        most = min(most, MAX_SAMPLES * header.rate_hz // (model_rate_hz * header.channels) + 1)
    wanted = min(header.frames or most, most)
    try:
        with SndFile(io.BytesIO(source.value[begin:end])) as file:
            if (file.format, file.channels, file.rate_hz) != ("FLAC", header.channels, header.rate_hz):
                raise FrameRejected("not_audio", f"decodes as {file.format}, {file.channels} channels")
            samples = as_float(file.read(wanted), file.kind)
    except ERRORS as error:
        raise undecodable("FLAC", error) from None
    found = samples.shape[1]
    if found < header.frames and found < wanted:
        raise FrameRejected("truncated", f"the header says {header.frames} samples; {found} decode")
    _check_length(header.rate_hz, header.channels, found, model_rate_hz)
    return Audio(samples, header.rate_hz)


def _check_finite(samples: Float32) -> None:
    if found := first_not_finite(samples):
        raise FrameRejected("not_finite", found)
    limited(samples)


def _check_length(rate_hz: int, channels: int, frames: int, model_rate_hz: int | None) -> None:
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
    if model_rate_hz is not None and frames * channels * model_rate_hz > MAX_SAMPLES * rate_hz:
        expected = frames * channels * model_rate_hz // rate_hz
        raise FrameRejected(
            "too_many_samples",
            f"{expected} samples at the model's {model_rate_hz} Hz; at most {MAX_SAMPLES} are taken",
        )
