"""Where an archive lies: a folder, or an object store or anything else that fsspec knows by a URL.

Names are relative to the archive's root, with forward slashes. A file appears whole or not at all: a folder's by being
renamed, an object store's because its puts are.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from schemas.errors import ServiceUnavailable, SettingsError
from whirr.outputs import replacing

_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_SCHEME: Final = "://"


class Location(Protocol):
    """Files under a root.

    Every method raises :class:`~schemas.errors.ServiceUnavailable` where the place can't be used now.
    """

    url: str

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files, in place of those that had their names."""

    def settle(self) -> None:
        """Return when all that was written survives a power cut."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None where it isn't there."""

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below a folder, in order."""

    def remove(self, names: Sequence[str]) -> None:
        """Remove files; what isn't there is passed over."""

    def fetch(self, name: str, target: Path) -> bool:
        """Put a copy of a file, or a hard link to it, at a local path; return whether it is there."""


def place_of(url: str) -> Location:
    """Return the place that a URL or a folder's path names; nothing is looked at yet.

    Raises:
        SettingsError: No file system has such URLs, or the package that knows it is not installed; the message names
            the package.
    """
    if not url.strip() or "\0" in url:
        raise SettingsError(f"archive is {url!r}; expected a folder, or a URL such as s3://bucket/whirr")
    scheme, found, rest = url.partition(_SCHEME)
    if not found:
        return FolderLocation(Path(url).expanduser())
    if scheme in ("file", "local"):
        return FolderLocation(Path(rest))
    return ObjectLocation(url)


class FolderLocation:
    """A folder of this machine.

    Args:
        folder: Made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files, each under a hidden name until it is whole."""
        with self._usable():
            for name, value in files.items():
                with replacing(self.folder / name) as file:
                    file.write(value)

    def settle(self) -> None:
        """Wait for the disk: of this file system where the system can do that, else of all."""
        with self._usable():
            if _LIBC is None or not hasattr(_LIBC, "syncfs"):
                os.sync()
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            number = os.open(self.folder, os.O_RDONLY)
            try:
                if _LIBC.syncfs(number):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            finally:
                os.close(number)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None where it isn't there."""
        with self._usable():
            try:
                return (self.folder / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below a folder, in order; those that are being written are none."""
        found = []
        with self._usable():
            for path, _, files in os.walk(self.folder / folder):
                inside = Path(path).relative_to(self.folder)
                found += [(inside / name).as_posix() for name in files if not name.startswith(".")]
        return sorted(found)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files, and the folders that are empty then."""
        with self._usable():
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
            for folder in sorted({Path(name).parent for name in names}, key=lambda one: -len(one.parts)):
                with suppress(OSError):  # it holds something, or another process was faster
                    for one in (folder, *folder.parents[:-1]):
                        (self.folder / one).rmdir()

    def fetch(self, name: str, target: Path) -> bool:
        """Link to a file, or copy it to where no link can be."""
        source = self.folder / name
        with self._usable():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.unlink(missing_ok=True)
                target.hardlink_to(source)
            except FileNotFoundError:
                return False
            except OSError:  # another disk, or one without hard links
                with replacing(target) as file, source.open("rb") as read:
                    shutil.copyfileobj(read, file)
        return True

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ServiceUnavailable(f"the archive {self.url!r} can't be used ({error.strerror or error})") from None


class ObjectLocation:
    """A root in a file system of fsspec: ``s3://``, ``gs://``, ``abfs://``, ``memory://`` ….

    Args:
        url: Of the root. What else the file system needs (keys, endpoints) it takes from its own settings: the
            environment, and fsspec's configuration files.

    Raises:
        SettingsError: As of :func:`place_of`.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        scheme = url.partition(_SCHEME)[0]
        try:
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            needed = _PACKAGES.get(scheme)
            package = f"the package {needed!r}: pip install {needed}" if needed else f"a package ({error})"
            raise SettingsError(f"archive is {url!r}; URLs of {scheme}:// need {package}") from None
        except ValueError as error:
            raise SettingsError(
                f"archive is {url!r}, which fsspec can't use ({error}); expected s3://, gs:// …"
            ) from None
        self._root = str(root).rstrip("/")

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files; where the file system can, side by side."""
        with self._usable():
            whole = {self._path(name): value for name, value in files.items()}
            if not getattr(self._fs, "async_impl", False):  # no object store: there are folders, and they must be there
                for folder in {path.rpartition("/")[0] for path in whole}:
                    self._fs.makedirs(folder, exist_ok=True)
            self._fs.pipe(whole)

    def settle(self) -> None:
        """Return: what an object store took, it keeps."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content, None where it isn't there."""
        with self._usable():
            try:
                content: bytes = self._fs.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

    def names(self, folder: str) -> list[str]:
        """Return the names of all files below a folder, in order."""
        path = self._path(folder)
        with self._usable():
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(path)
            except FileNotFoundError:
                return []
        inside = folder.rstrip("/") + "/" if folder.strip("/") else ""
        return sorted(inside + one[len(path.rstrip("/")) + 1 :] for one in found)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files, many at once where the file system can."""
        with self._usable():
            paths = [self._path(name) for name in names]
            if not paths:
                return
            try:
                self._fs.rm(paths)
            except FileNotFoundError:  # one is gone already, and those after it may be there
                for path in paths:
                    with suppress(FileNotFoundError):
                        self._fs.rm_file(path)

    def fetch(self, name: str, target: Path) -> bool:
        """Download a file."""
        value = self.read(name)
        if value is None:
            return False
        with replacing(target) as file:
            file.write(value)
        return True

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except ServiceUnavailable:
            raise
        except Exception as error:  # each file system has errors of its own
            said = " ".join(str(error).split())[:300]
            raise ServiceUnavailable(
                f"the archive {self.url!r} can't be used ({type(error).__name__}: {said})"
            ) from error


# Which package knows which URLs; fsspec's own message names some only.
_PACKAGES: Final[dict[str, Any]] = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "oci": "ocifs",
    "oss": "ossfs",
}
