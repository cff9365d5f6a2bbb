"""Audio files as recorders and programs write them, whole, odd and damaged: bytes by name, made here."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile

RATE_HZ = 16_000
FRAMES = 8_000
_TIMES = np.arange(FRAMES) / RATE_HZ
SIGNAL = 0.1 * np.sin(2 * np.pi * 500 * _TIMES) + 0.02 * np.random.default_rng(0).standard_normal(FRAMES)
I16 = np.round(SIGNAL * 32767).astype("<i2")
I24 = np.round(SIGNAL * (2**23 - 1)).astype("<i4")
AS_16 = (I16 / 32768).astype(np.float32)
AS_24 = (I24 / 2**23).astype(np.float32)
PLAIN_GUID = bytes.fromhex("000000001000800000aa00389b71")
AMBISONIC_GUID = bytes.fromhex("000000002107d3118644c8c1ca000000")[2:]
ID3 = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)


def packed_24(values: np.ndarray, order: str = "<") -> bytes:
    raw = values.astype(f"{order}i4").view(np.uint8).reshape(-1, 4)
    return (raw[:, :3] if order == "<" else raw[:, 1:]).tobytes()


def chunk(name: bytes, body: bytes, *, pad: bool = True, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(body)) + body + b"\0" * (pad and len(body) % 2)


def fmt(
    tag: int = 1, bits: int = 16, block: int | None = None, more: bytes = b"", order: str = "<", channels: int = 1
) -> bytes:
    block = channels * ((bits + 7) // 8) if block is None else block
    fields = (tag, channels, RATE_HZ, RATE_HZ * block, block, bits)
    return chunk(b"fmt ", struct.pack(f"{order}HHIIHH", *fields) + more, order=order)


def extension(valid: int, tag: int = 1, guid: bytes = PLAIN_GUID) -> bytes:
    return struct.pack("<HHIH", 22, valid, 4, tag) + guid


def riff(chunks: bytes, size: int | None = None, magic: bytes = b"RIFF", order: str = "<") -> bytes:
    return magic + struct.pack(f"{order}I", 4 + len(chunks) if size is None else size) + b"WAVE" + chunks


def pcm16(data_size: int | None = None, riff_size: int | None = None, before: bytes = b"", after: bytes = b"") -> bytes:
    size = struct.pack("<I", 2 * FRAMES if data_size is None else data_size)
    return riff(before + fmt() + b"data" + size + I16.tobytes() + after, riff_size)


def rf64(magic: bytes = b"RF64", data_size: int = 2 * FRAMES) -> bytes:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 72 + 2 * FRAMES, data_size, FRAMES, 0))
    return riff(ds64 + fmt() + b"data\xff\xff\xff\xff" + I16.tobytes(), 0xFFFFFFFF, magic)


def written(container: str, subtype: str | None = None, samples: np.ndarray = SIGNAL) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format=container, subtype=subtype)
    return file.getvalue()


def with_total(flac: bytes, total: int) -> bytes:
    """A FLAC whose header says another number of samples; 0: it is not known, as where ffmpeg writes to a pipe."""
    place = flac.index(b"fLaC") + 18
    fields = int.from_bytes(flac[place : place + 8], "big") >> 36 << 36 | total
    return flac[:place] + fields.to_bytes(8, "big") + flac[place + 8 :]


FLAC = written("FLAC", "PCM_16", I16)
AS_FLAC = AS_16
_ODD_LIST = b"INFOISFT\x05\0\0\0abcd\0"
_I16_BE = I16.astype(">i2").tobytes()

# Read alike by all paths, a worker's too: what the file holds.
FRAMES_OF: dict[str, tuple[bytes, np.ndarray]] = {
    "plain.wav": (pcm16(), AS_16),
    "data ffffffff.wav": (pcm16(0xFFFFFFFF, 0xFFFFFFFF), AS_16),
    "data 7fffffff.wav": (pcm16(0x7FFFFFFF, 0x7FFFFFFF), AS_16),
    "data 7fffffff riff more.wav": (pcm16(0x7FFFFFFF, 0x7FFFFFFF + 36), AS_16),
    "data 7fffffdb.wav": (pcm16(0x7FFFFFFF - 36, 0x7FFFFFFF), AS_16),
    "data ffffffdb.wav": (pcm16(0xFFFFFFFF - 36, 0xFFFFFFFF), AS_16),
    "data fffffff0.wav": (pcm16(0xFFFFFFF0, 0xFFFFFFFF), AS_16),
    "data 7ffff000.wav": (pcm16(0x7FFFF000, 0x7FFFF024), AS_16),
    "data 80000000.wav": (pcm16(0x80000000, 0x80000024), AS_16),
    "data 0 riff 0.wav": (pcm16(0, 0), AS_16),
    "data 0 riff 36.wav": (pcm16(0, 36), AS_16),
    "data 16 too many.wav": (pcm16(2 * FRAMES + 16, 36 + 2 * FRAMES), AS_16),
    "data 44 too many.wav": (pcm16(2 * FRAMES + 44, 36 + 2 * FRAMES), AS_16),
    "length of file twice.wav": (pcm16(2 * FRAMES + 44, 2 * FRAMES + 44), AS_16),
    "riff size 0.wav": (pcm16(None, 0), AS_16),
    "riff size ffffffff.wav": (pcm16(None, 0xFFFFFFFF), AS_16),
    "odd chunk.wav": (pcm16(before=chunk(b"LIST", _ODD_LIST)), AS_16),
    "odd chunk unpadded.wav": (pcm16(before=chunk(b"LIST", _ODD_LIST, pad=False)), AS_16),
    "odd bext unpadded.wav": (pcm16(before=chunk(b"bext", b"x" * 603, pad=False)), AS_16),
    "odd chunk padded with a letter.wav": (pcm16(before=chunk(b"LIST", _ODD_LIST, pad=False) + b"x"), AS_16),
    "odd chunk between.wav": (
        riff(fmt() + chunk(b"abcd", b"odd", pad=False) + chunk(b"data", I16.tobytes())),
        AS_16,
    ),
    "tail.wav": (pcm16(after=chunk(b"LIST", b"INFO") + bytes(7)), AS_16),
    "id3 tag behind.wav": (pcm16(after=b"TAG".ljust(128, b"\0")), AS_16),
    "fmt of 18.wav": (riff(fmt(more=b"\0\0") + chunk(b"data", I16.tobytes())), AS_16),
    "extensible.wav": (riff(fmt(0xFFFE, more=extension(16)) + chunk(b"data", I16.tobytes())), AS_16),
    "ambisonic.wav": (
        riff(fmt(0xFFFE, more=extension(16, guid=AMBISONIC_GUID)) + chunk(b"data", I16.tobytes())),
        AS_16,
    ),
    "24 valid of 32.wav": (
        riff(fmt(0xFFFE, 32, more=extension(24)) + chunk(b"data", (I24 << 8).tobytes())),
        AS_24,
    ),
    "24 lower of 4 bytes.wav": (riff(fmt(bits=24, block=4) + chunk(b"data", I24.tobytes())), AS_24),
    "24 upper of 4 bytes.wav": (riff(fmt(bits=24, block=4) + chunk(b"data", (I24 << 8).tobytes())), AS_24),
    "24 lower of 4 bytes extensible.wav": (
        riff(fmt(0xFFFE, 24, 4, extension(24)) + chunk(b"data", I24.tobytes())),
        AS_24,
    ),
    "24.wav": (riff(fmt(bits=24) + chunk(b"data", packed_24(I24))), AS_24),
    "20 in 24.wav": (riff(fmt(bits=20) + chunk(b"data", packed_24(I24))), AS_24),
    "24 odd.wav": (riff(fmt(bits=24) + chunk(b"data", packed_24(I24[:-1]), pad=False)), AS_24[:-1]),
    "12 in 16.wav": (riff(fmt(bits=12) + chunk(b"data", I16.tobytes())), AS_16),
    "block 0.wav": (riff(fmt(block=0) + chunk(b"data", I16.tobytes())), AS_16),
    "block 1.wav": (riff(fmt(block=1) + chunk(b"data", I16.tobytes())), AS_16),
    "float32.wav": (riff(fmt(3, 32) + chunk(b"data", SIGNAL.astype("<f4").tobytes())), SIGNAL.astype(np.float32)),
    "float at the scale of integers.wav": (
        riff(fmt(3, 32) + chunk(b"data", (SIGNAL * 32768).astype("<f4").tobytes())),
        (SIGNAL * 32768).astype(np.float32),
    ),
    "big-endian.wav": (
        riff(fmt(order=">") + chunk(b"data", _I16_BE, order=">"), magic=b"RIFX", order=">"),
        AS_16,
    ),
    "big-endian 24.wav": (
        riff(fmt(bits=24, order=">") + chunk(b"data", packed_24(I24, ">"), order=">"), magic=b"RIFX", order=">"),
        AS_24,
    ),
    "rf64.wav": (rf64(), AS_16),
    "rf64 of unknown length.wav": (rf64(data_size=0xFFFFFFFFFFFFFFFF), AS_16),
    "bw64.wav": (rf64(b"BW64"), AS_16),
    "id3 before.wav": (ID3 + pcm16(), AS_16),
    "two id3 before.wav": (ID3 + ID3 + pcm16(), AS_16),
    "flac.flac": (FLAC, AS_FLAC),
    "flac in a wav's name.wav": (FLAC, AS_FLAC),
    "wav in a flac's name.flac": (pcm16(), AS_16),
    "flac 24.flac": (written("FLAC", "PCM_24", (I24 << 8)), AS_24),
    "flac of unknown length.flac": (with_total(FLAC, 0), AS_FLAC),
    "flac of unknown length with a tag behind.flac": (with_total(FLAC, 0) + b"TAG".ljust(128, b"\0"), AS_FLAC),
    "flac with a tag behind.flac": (FLAC + b"TAG".ljust(128, b"\0"), AS_FLAC),
    "flac with junk behind.flac": (FLAC + bytes(1000), AS_FLAC),
    "flac that says less.flac": (with_total(FLAC, 4_000), AS_FLAC[:4_000]),
    "id3 before flac.flac": (ID3 + FLAC, AS_FLAC),
    "two id3 before flac of unknown length.flac": (ID3 + ID3 + with_total(FLAC, 0), AS_FLAC),
}


def _as_read(value: bytes, dtype: str = "int16") -> np.ndarray:
    samples = soundfile.read(io.BytesIO(value), dtype=dtype)[0]
    return (samples / 32768).astype(np.float32) if dtype == "int16" else samples


def _lossy(value: bytes) -> np.ndarray:
    floats = soundfile.read(io.BytesIO(value), dtype="float32")[0]
    return (np.rint(np.clip(floats, -1, 32767 / 32768) * 32768) / 32768).astype(np.float32)


def _files() -> dict[str, tuple[bytes, np.ndarray]]:
    """What is read alike by all paths that read files, and refused as a frame as it is."""
    eight = np.round(SIGNAL * 127).astype(np.int16)
    made = {
        "8 bit.wav": (riff(fmt(bits=8) + chunk(b"data", (eight + 128).astype(np.uint8).tobytes())), eight / 128),
        "float64.wav": (riff(fmt(3, 64) + chunk(b"data", SIGNAL.astype("<f8").tobytes())), SIGNAL.astype(np.float32)),
        "aiff.aiff": (written("AIFF", "PCM_16", I16), AS_16),
        "aiff in a wav's name.wav": (written("AIFF", "PCM_24", I24 << 8), AS_24),
        "au.au": (written("AU", "PCM_16", I16), AS_16),
        "w64.w64": (written("W64", "PCM_16", I16), AS_16),
        "caf.caf": (written("CAF", "PCM_24", I24 << 8), AS_24),
    }
    for subtype in ("ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"):
        value = written("WAV", subtype)
        made[f"{subtype.lower()}.wav"] = (value, _as_read(value))
    flac = written("FLAC", "PCM_S8")
    made["flac 8.flac"] = (flac, _as_read(flac))
    for name, value in (("vorbis.ogg", written("OGG", "VORBIS")), ("mp3.mp3", written("MP3", None))):
        made[name] = (value, _lossy(value))
    made["id3 before mp3.mp3"] = (ID3 + made["mp3.mp3"][0], made["mp3.mp3"][1])
    return {name: (value, np.asarray(samples, np.float32)) for name, (value, samples) in made.items()}


FILES_OF = _files()

# Refused by all paths, for this reason.
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.wav": (b"", "it is empty|begins with ''"),
    "text.wav": (b"no audio at all", "begins with '6e 6f 20 61"),
    "newline before.wav": (b"\n" + pcm16(), "begins with '0a 52 49 46 46"),
    "html.wav": (b"<html>" * 100, "an HTML page"),
    "cut.wav": (pcm16()[:9_000], "the data chunk claims 16000 bytes; 8956 are there"),
    "cut by a byte.wav": (pcm16()[:-1], "the data chunk claims 16000 bytes; 15999 are there"),
    "cut in its header.wav": (pcm16()[:30], "chunk b'fmt ' claims 16 bytes; 10 are left"),
    "chunk too long.wav": (riff(fmt() + b"LIST\xff\xff\xff\x3f" + bytes(100)), "claims 1073741823 bytes; 100 are left"),
    "no data.wav": (riff(fmt()), "the file ends after 36 bytes; expected a data chunk first"),
    "no format.wav": (riff(chunk(b"data", I16.tobytes())), "the data chunk comes before any fmt chunk"),
    "0 channels.wav": (riff(fmt(channels=0) + chunk(b"data", I16.tobytes())), "0 channels of 16 bits"),
    "65 channels.wav": (riff(fmt(channels=65) + chunk(b"data", bytes(13_000))), "65 channels; expected at most 64"),
    "block 7.wav": (riff(fmt(block=7) + chunk(b"data", I16.tobytes())), "1 channels of 16 bits in blocks of 7 bytes"),
    "unknown guid.wav": (
        riff(fmt(0xFFFE, more=extension(16, guid=bytes(14))) + chunk(b"data", I16.tobytes())),
        "subformat 0100.*; expected PCM or float",
    ),
    "64 bit.wav": (riff(fmt(bits=64) + chunk(b"data", bytes(64_000))), "format 1 with 64 bits; expected PCM"),
    "rate 0.wav": (pcm16().replace(struct.pack("<I", RATE_HZ), bytes(4), 1), "0 Hz; expected 100 to 384000 Hz"),
    "nan.wav": (
        riff(fmt(3, 32) + chunk(b"data", np.full(FRAMES, np.nan, "<f4").tobytes())),
        "sample 0 of channel 0 is nan; expected finite samples",
    ),
    "cut.flac": (FLAC[: len(FLAC) // 2], "FLAC|the header says 8000 samples"),
    "says more.flac": (with_total(FLAC, 16_000), "the header says 16000 samples; 8000 decode"),
    "header alone.flac": (FLAC[:30], "30 bytes; a FLAC header has 42"),
    "no streaminfo.flac": (b"fLaC\x04\0\0\x22" + bytes(60), "the FLAC's first block is 04000022; expected STREAMINFO"),
    "magic alone.flac": (b"fLaC", "4 bytes; a FLAC header has 42"),
    "avi.wav": (b"RIFF" + struct.pack("<I", 4) + b"AVI ", r"a RIFF file \(no WAV\)"),
    "zip.wav": (b"PK\x03\x04" + bytes(100), "a zip file"),
}
