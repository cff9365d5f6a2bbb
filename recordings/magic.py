"""Magic numbers: what kind of file begins with some bytes."""

from __future__ import annotations

from typing import Final, NamedTuple


class FileType(NamedTuple):
    """A kind of file: its name with its article, and whether `whirr edge FILE` plays it."""

    name: str
    is_audio: bool


_AUDIO: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"fLaC", "a FLAC file"),
    (0, b"OggS", "an Ogg file"),
    (0, b"ID3", "a file with an ID3 tag (MP3)"),
    (0, b".snd", "a Sun AU file"),
    (0, b"dns.", "a Sun AU file"),
    (0, b"caff", "a Core Audio file (CAF)"),
    (0, b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", "a Sony Wave64 file (W64)"),
)
_RIFF: Final = {b"RIFF": "a RIFF file", b"RIFX": "a big-endian RIFF file (RIFX)", b"FFIR": "a RIFF file"}
_RF64: Final = {b"RF64": "a WAV file (RF64)", b"BW64": "a WAV file (BW64)"}
_OTHER: Final[tuple[tuple[int, bytes, str], ...]] = (
    (4, b"ftyp", "an MP4 file"),
    (4, b"moov", "a QuickTime file"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
    (0, b"\x1f\x8b\x08", "a gzip file"),
    (0, b"PK\x03\x04", "a zip file"),
    (0, b"PK\x05\x06", "a zip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\x00", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
    (0, b"Rar!\x1a\x07", "a RAR file"),
    (257, b"ustar", "a tar file"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file"),
    (0, b"MATLAB 7.3 MAT-file", "a MATLAB file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"wvpk", "a WavPack file"),
    (0, b"MAC ", "a Monkey's Audio file"),
    (0, b"TTA1", "a True Audio file"),
    (0, b"MPCK", "a Musepack file"),
    (0, b"MP+", "a Musepack file"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "an ASF file (WMA)"),
    (0, b"#!AMR", "an AMR file"),
    (0, b"MThd", "a MIDI file"),
    (0, b"NIST_1A", "a NIST Sphere file"),
    (0, b"Creative Voice File\x1a", "a Creative Voice file"),
    (0, b"DSD ", "a DSD file"),
    (0, b"FRM8", "a DSDIFF file"),
    (0, b"ADIF", "an AAC file"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"%PDF-", "a PDF file"),
    (0, b"\x7fELF", "a program (ELF)"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"<!DOCTYPE", "an HTML page"),
    (0, b"<!doctype", "an HTML page"),
    (0, b"<html", "an HTML page"),
    (0, b"<?xml", "an XML file"),
)
_MAGIC_BYTES: Final = 24


def kind_of(head: bytes) -> FileType | None:
    """Return what kind of file begins so; None for what has no known magic number.

    Args:
        head: The first bytes: :func:`bytes_needed` of them, or all there are; more are welcome.
    """
    if name := _container(head) or _found(_AUDIO, head):
        return FileType(name, "(no WAV)" not in name)
    if name := _found(_OTHER, head):
        return FileType(name, False)
    return _mpeg(head)


def bytes_needed(head: bytes) -> int:
    """Return how many bytes have to be seen to tell; few, but where they might begin MPEG audio."""
    length = _mpeg_bytes(head, 0) or _adts_bytes(head, 0)
    return max(_MAGIC_BYTES, length + 7 if length else 0)


def _found(kinds: tuple[tuple[int, bytes, str], ...], head: bytes) -> str | None:
    return next((name for at, mark, name in kinds if head.startswith(mark, at)), None)


def _container(head: bytes) -> str | None:
    magic, form = head[:4], head[8:12]
    if magic in _RIFF:
        return "a WAV file" + (" (RIFX)" if magic == b"RIFX" else "") if form == b"WAVE" else _RIFF[magic] + " (no WAV)"
    if magic in _RF64:
        return _RF64[magic]
    if magic == b"FORM":
        return "an AIFF file" if form in (b"AIFF", b"AIFC") else "an IFF file (no WAV)"
    return None


# MPEG audio has no magic number, but each frame begins with 11 set bits and says how long it is. Samples of a signal
# look like that now and then; two such frames in a row, of one version and rate, they do not.
_KBIT_S: Final = {
    (3, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def _mpeg(head: bytes) -> FileType | None:
    length = _adts_bytes(head, 0)
    if length and _adts_bytes(head, length):
        return FileType("an AAC file (ADTS)", False)
    length = _mpeg_bytes(head, 0)
    if length and _mpeg_bytes(head, length) and head[1] == head[length + 1]:
        return FileType("an MP3 file", True)
    return None


def _mpeg_bytes(head: bytes, at: int) -> int:
    """Return the length of the MPEG audio frame that begins at a place; 0 for none."""
    if len(head) < at + 4 or head[at] != 0xFF or head[at + 1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[at + 1] >> 3 & 3, head[at + 1] >> 1 & 3
    kbit_index, rate_index = head[at + 2] >> 4, head[at + 2] >> 2 & 3
    if version == 1 or layer == 0 or kbit_index in (0, 15) or rate_index == 3:
        return 0
    bit_s = 1000 * _KBIT_S[3 if version == 3 else 2, layer if version == 3 or layer == 3 else 2][kbit_index]
    rate_hz, padding = _RATES_HZ[version][rate_index], head[at + 2] >> 1 & 1
    if layer == 3:
        return (12 * bit_s // rate_hz + padding) * 4
    return (72 if layer == 1 and version != 3 else 144) * bit_s // rate_hz + padding


def _adts_bytes(head: bytes, at: int) -> int:
    """Return the length of the AAC frame that begins at a place; 0 for none."""
    if len(head) < at + 7 or head[at] != 0xFF or head[at + 1] & 0xF6 != 0xF0 or (head[at + 2] >> 2 & 0xF) > 12:
        return 0
    length = (head[at + 3] & 3) << 11 | head[at + 4] << 3 | head[at + 5] >> 5
    return length if length >= 7 else 0
