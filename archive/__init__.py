"""The archive: what was heard, in a folder or an object store, as far as quotas and thinning let it stay.

For the trainer: ``archive.open(url)`` gives an :class:`Archive`; its ``entries(machine, from_us, until_us)`` say what
there is, ``fetch(entries, folder)`` makes of them a folder that ``whirr train`` reads, and ``pin(machine, from_us,
until_us, why)`` keeps what must stay.
"""

from archive.archive import Archive, Fetched, Mended
from archive.archive import open_archive as open  # noqa: A004 - archive.open(url)
from archive.entries import ArchiveEntry
from archive.keeping import KeptFrame, kept_frame
from archive.pins import Pin
from archive.quotas import Keep, Pruned

__all__ = ["Archive", "ArchiveEntry", "Fetched", "Keep", "KeptFrame", "Mended", "Pin", "Pruned", "kept_frame", "open"]
