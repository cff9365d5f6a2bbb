"""MIMII: industrial machines' sound, normal and faulty, at three noise levels (Purohit et al. 2019).

The archive of one kind of machine and noise level holds ``<kind>/id_XX/{normal,abnormal}/NNNNNNNN.wav``, 10 s at 16 kHz
in eight channels. It is laid out as ``<kind>-id_XX/train/normal_…`` and ``…/test/{normal,anomaly}_…``, split as its
authors did: as many normal recordings as there are anomalous ones test, all others train. They drew them at random;
here it is the last ones by number, so that everybody gets the same.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import soundfile

from examples.datasets.download import Download, get_json
from schemas.errors import RecordingError
from whirr.outputs import replacing

PUBLISHER: Final = "https://zenodo.org"
RECORD: Final = "3384388"
KINDS: Final = ("fan", "pump", "slider", "valve")
LICENCE: Final = (
    "MIMII by Hitachi, Ltd. (Purohit, Tanabe, Ichige, Endo, Nikaido, Suefusa, Kawaguchi 2019, "
    "doi:10.5281/zenodo.3384388), licensed under CC BY-SA 4.0. Credit its authors in what you publish, and share what "
    "you change of it alike."
)
_MEMBER = re.compile(r"(?:.*/)?(?P<kind>\w+)/(?P<unit>id_\d+)/(?P<label>normal|abnormal)/(?P<number>\d+)\.wav")


def download_of(kind: str, noise_db: int, publisher: str = PUBLISHER) -> Download:
    """Return the archive of one kind of machine at one noise level, as the publisher's own list describes it.

    Raises:
        RecordingError: The publisher's list holds no such archive.
        ServiceUnavailable: The list can't be had.
    """
    name = f"{noise_db}_dB_{kind}.zip"
    files = get_json(f"{publisher}/api/records/{RECORD}").get("files", ())
    for file in files:
        if file["key"] == name:
            return Download(name, file["links"]["self"], file.get("size"), file.get("checksum"))
    raise RecordingError(
        f"{publisher} lists no {name} in record {RECORD}; expected one of {[one['key'] for one in files]}"
    )


def lay_out(archive: Path, out: Path, all_channels: bool, progress: Callable[[int, int], None]) -> int:
    """Write an archive's recordings under ``out``; those that are there already are left alone.

    Args:
        archive: As downloaded.
        out: The folder of machines.
        all_channels: Keep all eight microphones; else the first, as DCASE does.
        progress: Called with recordings done, and all.

    Returns:
        Recordings in the archive.

    Raises:
        RecordingError: The archive can't be read, or holds no recording where MIMII's are.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            homes = _homes(file.namelist())
            if not homes:
                raise RecordingError(f"{archive} holds no <kind>/id_XX/{{normal,abnormal}}/NNNNNNNN.wav")
            for done, (member, home) in enumerate(homes.items(), 1):
                if not (out / home).is_file():
                    _write(file.read(member), out / home, all_channels)
                progress(done, len(homes))
    except (zipfile.BadZipFile, soundfile.SoundFileError) as error:
        raise RecordingError(f"{archive} can't be read: {error}") from None
    return len(homes)


def _homes(members: list[str]) -> dict[str, str]:
    """Return where each recording of an archive goes."""
    units: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for member in sorted(members):
        if match := _MEMBER.fullmatch(member):
            units[f"{match['kind']}-{match['unit']}"][match["label"]].append((match["number"], member))
    homes = {}
    for machine, labels in units.items():
        normal, abnormal = labels["normal"], labels["abnormal"]
        border = max(0, len(normal) - len(abnormal))
        for index, (number, member) in enumerate(normal):
            homes[member] = f"{machine}/{'train' if index < border else 'test'}/normal_{number}.wav"
        for number, member in abnormal:
            homes[member] = f"{machine}/test/anomaly_{number}.wav"
    return homes


def _write(content: bytes, path: Path, all_channels: bool) -> None:
    samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)
    with replacing(path) as file:
        soundfile.write(file, samples if all_channels else samples[:, 0], rate_hz, format="WAV", subtype="PCM_16")
