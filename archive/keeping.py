"""From a frame as it came to a file and its entry: what it is, and the smaller of its bytes and an exact FLAC of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from archive.entries import ArchiveEntry, file_name
from archive.operating_states import spectrum_of, state_of
from recordings import Audio, container, decode
from recordings.encode import encode
from recordings.samples import SampleKind, SignalFormat
from recordings.sources import Value, extent
from recordings.wav import KINDS, parse_wav, read_wav
from schemas.frame import FrameRecord, parse_frame
from stream_app.pipeline.sensor import level_dbfs

FileForm = Literal["flac", "as_sent"]
_FLAC_KINDS: Final[frozenset[SampleKind]] = frozenset({"pcm16", "pcm24"})
_FLAC_CHANNELS: Final = 8


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A file for the archive, and its entry."""

    entry: ArchiveEntry
    value: bytes


def kept_frame(record: FrameRecord, form: FileForm = "flac") -> KeptFrame:
    """Return what is kept of a frame.

    Args:
        record: As it came from Kafka.
        form: ``flac``: a WAV that a FLAC holds exactly and in fewer bytes becomes one. ``as_sent``: every frame stays
            as it is.

    Raises:
        FrameRejected: It is no frame that can be used; the code says why.
    """
    frame = parse_frame(record)
    sent = record.value or b""
    audio = decode(sent)
    value = _smaller(sent, audio) if form == "flac" else sent
    level, spectrum = level_dbfs(audio.samples), spectrum_of(audio)
    entry = ArchiveEntry(
        path=file_name(frame.machine_id, frame.source, frame.recorded_us, frame.frame_id, container(value)),
        frame_id=frame.frame_id,
        machine=frame.machine_id,
        source=frame.source,
        recorded_us=frame.recorded_us,
        duration_s=audio.duration_s,
        condition=frame.condition,
        bytes=len(value),
        rate_hz=audio.rate_hz,
        channels=audio.samples.shape[0],
        level_dbfs=round(level, 1),
        state=state_of(level, frame.condition, spectrum),
        spectrum=spectrum,
    )
    return KeptFrame(entry, value)


def _smaller(sent: bytes, audio: Audio) -> bytes:
    """Return a WAV as FLAC, if that is smaller and gives the same samples; else the frame as it is."""
    if container(sent) != "wav" or audio.samples.shape[0] > _FLAC_CHANNELS:
        return sent
    source = Value(sent)
    header = parse_wav(source, *extent(source))
    kind = KINDS[header.encoding] if header.encoding else None
    if kind not in _FLAC_KINDS:
        return sent
    samples = read_wav(source, header, 0, header.frames)
    flac = encode(samples, SignalFormat(audio.rate_hz, audio.samples.shape[0], kind), "flac").value
    exact = len(flac) < len(sent) and np.array_equal(decode(flac).samples, audio.samples)
    return flac if exact else sent
