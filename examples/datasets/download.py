"""Downloads that survive broken connections: they go on where they stopped, and are checked before they count."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests
import urllib3

from schemas.errors import RecordingError, ServiceUnavailable
from whirr.retries import Backoff

TIMEOUT_S: Final = (10.0, 60.0)  # to connect, and between two pieces
ATTEMPTS: Final = 5  # in a row without a byte
_PIECE: Final = 1 << 20
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Download:
    """One file of a publisher.

    Attributes:
        name: File name to keep it under.
        url: Where it is.
        size: Bytes, or None where the publisher doesn't say.
        checksum: ``md5:…`` or ``sha256:…`` in hex, or None where the publisher gives none.
    """

    name: str
    url: str
    size: int | None = None
    checksum: str | None = None


def fetch(download: Download, folder: Path, progress: Progress, pause_s: float = 1.0) -> Path:
    """Return the file in ``folder``, downloaded if it is not there.

    What arrived of an earlier attempt is kept in ``NAME.part`` and gone on with. The file takes its name only when it
    is complete and its checksum, where there is one, is right.

    Args:
        download: What to get.
        folder: Where to put it; made if it is missing.
        progress: Called with bytes so far and bytes in all, or None where that is not known.
        pause_s: Longest wait before the second attempt; it doubles with each that brings nothing.

    Raises:
        ServiceUnavailable: The publisher can't be reached or refuses.
        RecordingError: The file that arrived is not the one that was published.
    """
    path, part = folder / download.name, folder / f"{download.name}.part"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    backoff = Backoff(pause_s, 16 * pause_s)
    while True:
        before = _size(part)
        try:
            _go_on(download, part, progress)
            break
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            if _size(part) > before:
                backoff.succeeded()
            elif backoff.failures + 1 >= ATTEMPTS:
                kept = f"{_size(part):,} bytes are kept in {part}: run this again to go on"
                raise ServiceUnavailable(f"{download.url} can't be reached: {error}. {kept}") from None
            time.sleep(backoff.failed())
    _check(download, part)
    part.rename(path)
    return path


def get_json(url: str) -> Any:
    """Return a JSON document.

    Raises:
        ServiceUnavailable: The publisher can't be reached, refuses, or answers with something else.
    """
    try:
        answer = requests.get(url, timeout=TIMEOUT_S)
        _check_status(answer)
        return answer.json()
    except (requests.RequestException, ValueError) as error:
        raise ServiceUnavailable(f"{url} can't be read: {error}") from None


def _go_on(download: Download, part: Path, progress: Progress) -> None:
    """Ask for what is missing of a file, and append it."""
    have = _size(part)
    if download.size is not None and have == download.size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(download.url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing, or the part is too long: the check tells
        _check_status(answer)
        if answer.status_code != requests.codes.partial_content:
            have = 0  # the publisher can't go on in the middle
        length = answer.headers.get("Content-Length")
        total = download.size or (have + int(length) if length else None)
        with part.open("ab" if have else "wb") as file:
            # As it arrives: a piece that is waited for in full is lost when the connection breaks.
            while piece := answer.raw.read1(_PIECE):
                file.write(piece)
                have += len(piece)
                progress(have, total)
    if total is not None and have < total:
        raise requests.ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _check_status(answer: requests.Response) -> None:
    if not answer.ok:
        raise ServiceUnavailable(f"{answer.url} answers {answer.status_code} {answer.reason}")


def _check(download: Download, part: Path) -> None:
    """Raise unless the file is what was published; what is wrong is removed, or it would never get right."""
    size = _size(part)
    wrong = f"{size:,} bytes; published are {download.size:,}" if download.size not in (None, size) else None
    if wrong is None and download.checksum is not None:
        kind, _, expected = download.checksum.partition(":")
        with part.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        wrong = f"{kind} {found}; published is {expected}" if found != expected.lower() else None
    if wrong is not None:
        part.unlink()
        raise RecordingError(f"{download.name} arrived damaged: {wrong}. It was removed; run this again")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
