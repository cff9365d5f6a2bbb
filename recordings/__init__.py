"""Recordings, from files to frames: find, label, time, read, cut (:mod:`recordings.cut`), encode; for all who use them.

Needs numpy and soundfile alone; scipy where a MATLAB file is read.
"""

from recordings.audio import RecordingInfo
from recordings.frames import FRAME_COST, container, decode, decode_cost
from recordings.notes import Notes
from recordings.recording import (
    AUDIO_SUFFIXES,
    KINDS,
    SUFFIXES,
    RecordingFile,
    is_recording,
    read_recording,
    recording_info,
)
from recordings.samples import SAMPLE_LIMIT, Audio, SampleKind, as_float
from recordings.tables import TABLE_SUFFIXES, is_table

__all__ = [
    "AUDIO_SUFFIXES",
    "FRAME_COST",
    "KINDS",
    "SAMPLE_LIMIT",
    "SUFFIXES",
    "TABLE_SUFFIXES",
    "Audio",
    "Notes",
    "RecordingFile",
    "RecordingInfo",
    "SampleKind",
    "as_float",
    "container",
    "decode",
    "decode_cost",
    "is_recording",
    "is_table",
    "read_recording",
    "recording_info",
]
