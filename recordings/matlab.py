"""MATLAB files of versions 4 to 7: looked through within a bound, before anything is unpacked.

Layout as in MathWorks' "MAT-File Format". What was looked through is read by scipy.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from typing import Any, Final

from recordings.sources import ByteSource
from schemas.errors import MissingExtra, RecordingError

MOST_BYTES: Final = 512 << 20  # of all variables together, unpacked
_MOST_ELEMENTS: Final = 200_000
_DEEPEST: Final = 32
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_MOST_DIMENSIONS: Final = 32
_NUMBERS: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13})
_KINDS: Final = _NUMBERS | {_MATRIX, _COMPRESSED, 16, 17, 18}  # 16 to 18 are text
_STRUCTURE, _SPARSE, _OPAQUE = 2, 5, 17
_OF_NUMBERS: Final = range(_SPARSE, 16)  # classes of matrices: sparse, double, single, integers
_COMPLEX: Final = 0x800
_HEADER_BYTES: Final = 128
_CHUNK: Final = 1 << 20
_V4_BYTES: Final = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}


def read_variables(source: ByteSource) -> dict[str, Any]:
    """Return the variables of a MATLAB file by name, as scipy reads them.

    Raises:
        RecordingError: It is no such file, one of version 7.3, damaged, or its variables are larger than
            :data:`MOST_BYTES`.
        MissingExtra: scipy is not installed.
    """
    if source.size == 0:
        raise RecordingError("no MATLAB file (it is empty)")
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError:
        raise MissingExtra("a MATLAB file (.mat)", "stream") from None
    content = _looked_through(source)
    try:
        return {name: value for name, value in loadmat(content).items() if not name.startswith("__")}
    except NotImplementedError:
        raise RecordingError("a MATLAB 7.3 file; expected one saved with -v7 or older") from None
    except Exception as error:  # whatever bytes that are no .mat make of the reader
        raise RecordingError(f"no MATLAB file ({type(error).__name__}: {error})"[:200]) from None


def _looked_through(source: ByteSource) -> io.BytesIO:
    """Return the file with its variables unpacked, no larger than the bound, all claims of lengths checked."""
    head = source.read(0, _HEADER_BYTES)
    if head[:8] == b"\x89HDF\r\n\x1a\n" or head.startswith(b"MATLAB 7.3"):
        raise RecordingError("a MATLAB 7.3 file (HDF5); expected one saved with -v7 or older")
    if source.size > MOST_BYTES:
        raise RecordingError(f"{source.size} bytes; at most {MOST_BYTES} are read")
    mark = head[126:128]
    if len(head) == _HEADER_BYTES and mark in (b"IM", b"MI"):
        return _unpacked(source, head, "<" if mark == b"IM" else ">")
    _check_v4(source)
    return io.BytesIO(source.read(0, source.size))


def _unpacked(source: ByteSource, head: bytes, order: str) -> io.BytesIO:
    content = io.BytesIO()
    content.write(head)
    looking = _StructureCheck(order)
    at = _HEADER_BYTES
    while at + 8 <= source.size:
        kind, size = struct.unpack(order + "II", source.read(at, 8))
        if size > source.size - at - 8:
            left = source.size - at - 8
            raise RecordingError(f"no MATLAB file (an element claims {size} bytes; {left} are left)")
        if kind == _COMPRESSED:
            element = _inflated(source, at + 8, size, MOST_BYTES - content.tell())
        else:
            element = source.read(at, 8 + size)
        looking.at_element(element, 0, len(element), 0)
        content.write(element)
        at += 8 + size
    content.seek(0)
    return content


def _inflated(source: ByteSource, at: int, size: int, most: int) -> bytes:
    """Return a compressed element, at most so many bytes of it, however much it unpacks to."""
    inflate = zlib.decompressobj()
    found = bytearray()
    end = at + size
    try:
        while at < end and not inflate.eof:
            data = source.read(at, min(_CHUNK, end - at))
            at += len(data)
            while data and not inflate.eof:
                found += inflate.decompress(data, _CHUNK)
                if len(found) > most:
                    raise RecordingError(f"unpacks to more than {MOST_BYTES} bytes; at most so many are read")
                data = inflate.unconsumed_tail
    except zlib.error as error:
        raise RecordingError(f"no MATLAB file (an element can't be unpacked: {error})") from None
    return bytes(found)


class _StructureCheck:
    """A look at all elements: each lies within the one that holds it."""

    def __init__(self, order: str) -> None:
        self._order = order
        self.used = 0

    def at_element(self, data: bytes, at: int, end: int, depth: int) -> int:
        """Look at the element that begins at a place, and return where the next one begins."""
        kind, begin, size = self._tag(data, at, end, depth)
        if kind == _MATRIX:
            self._at_matrix(data, begin, begin + size, depth + 1)
        if begin < at + 8:  # a small one
            return at + 8
        # Elements begin at multiples of 8 but for the compressed ones, which hold one each.
        return int(begin + size + (-size % 8 if kind != _COMPRESSED else 0))

    def _at_matrix(self, data: bytes, begin: int, end: int, depth: int) -> None:
        """Look at the elements of a matrix: flags, dimensions, name, and what suits its class.

        scipy would take numbers of a kind that is none, or an element that isn't there, from memory that isn't its own.
        """
        of_class, needed, at, number = 0, 0, begin, 0
        while at < end:
            kind, inside, size = self._tag(data, at, end, depth)
            if number == 0:
                if (kind, size) != (_UINT32, 8):
                    raise RecordingError(f"no MATLAB file (a matrix begins with {size} bytes of kind {kind}, no flags)")
                flags = struct.unpack_from(self._order + "I", data, inside)[0]
                of_class = flags & 0xFF
                # Places of the entries of a sparse one, its numbers, and their imaginary parts.
                needed = 3 + (2 if of_class == _SPARSE else 0) + 1 + bool(flags & _COMPLEX)
            elif number == 1 and of_class != _OPAQUE:  # which has none
                # A sparse matrix has few entries of many, a structure may have no fields.
                room = {_SPARSE: None, _STRUCTURE: MOST_BYTES // 8}.get(of_class, end - begin)
                self._check_dimensions(kind, data[inside : inside + size], room)
            elif number > 2 and of_class in _OF_NUMBERS and kind not in _NUMBERS:
                raise RecordingError(f"no MATLAB file (a matrix of numbers holds an element of kind {kind})")
            at = self.at_element(data, at, end, depth)
            number += 1
        if of_class in _OF_NUMBERS and number < needed:
            raise RecordingError(f"no MATLAB file (a matrix has {number} elements; expected {needed})")

    def _check_dimensions(self, kind: int, values: bytes, most: int | None) -> None:
        """Hold dimensions against how many there may be, and against the entries for which there is room."""
        if kind not in (_INT32, _UINT32) or not 8 <= len(values) <= 4 * _MOST_DIMENSIONS or len(values) % 4:
            raise RecordingError(f"no MATLAB file (dimensions are {len(values)} bytes of kind {kind})")
        sizes = struct.unpack(f"{self._order}{len(values) // 4}i", values)
        if min(sizes) < 0 or (most is not None and math.prod(sizes) > most):
            raise RecordingError(
                f"no MATLAB file (a matrix claims dimensions of {sizes}; there is room for {most} entries)"
            )

    def _tag(self, data: bytes, at: int, end: int, depth: int) -> tuple[int, int, int]:
        """Return an element's kind, and where its data begin and how long they are."""
        self.used += 1
        if self.used > 2 * _MOST_ELEMENTS or depth > _DEEPEST:
            raise RecordingError(f"has more than {_MOST_ELEMENTS} parts, or parts within parts {_DEEPEST} deep")
        if end - at < 8:
            raise RecordingError(f"no MATLAB file (an element of {end - at} bytes; expected at least 8)")
        kind, size = struct.unpack_from(self._order + "II", data, at)
        begin = at + 8
        if kind >> 16:  # a small one, with its data in the tag
            kind, size, begin = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise RecordingError(f"no MATLAB file (a small element claims {size} bytes; 4 are there)")
        elif size > end - begin:
            raise RecordingError(f"no MATLAB file (an element claims {size} bytes; {end - begin} are left)")
        if kind not in _KINDS:
            raise RecordingError(f"no MATLAB file (an element of kind {kind}; there is none such)")
        return kind, begin, size


def _check_v4(source: ByteSource) -> None:
    """Hold the lengths that a file of version 4 states against what is there."""
    at, variables = 0, 0
    while at < source.size:
        head = source.read(at, 20)
        fields = _v4_fields(head)
        if fields is None:
            raise RecordingError(f"no MATLAB file (begins with {source.read(0, 12).hex(' ')!r})")
        kind, rows, columns, imaginary, name = fields
        size = 20 + name + rows * columns * _V4_BYTES[kind // 10 % 10] * (2 if imaginary else 1)
        if size > source.size - at:
            raise RecordingError(f"no MATLAB file (a variable claims {size} bytes; {source.size - at} are left)")
        at, variables = at + size, variables + 1
        if variables > _MOST_ELEMENTS:
            raise RecordingError(f"has more than {_MOST_ELEMENTS} variables")


def _v4_fields(head: bytes) -> tuple[int, int, int, int, int] | None:
    if len(head) < 20:
        return None
    for order in "<>":
        kind, rows, columns, imaginary, name = struct.unpack(order + "iiiii", head)
        plausible = 0 <= kind < 5000 and kind // 10 % 10 in _V4_BYTES and kind // 100 % 10 == 0 and kind % 10 <= 2
        if plausible and rows >= 0 and columns >= 0 and imaginary in (0, 1) and 0 < name < 1024:
            return kind, rows, columns, imaginary, name
    return None
