"""Tables of samples: vibration recorded by a laboratory's rig, as MATLAB files (.mat) or as numbers in text (.csv).

Values are taken as acceleration in g; they are divided by 64, so that ±64 g is full scale. The sample rate must be
stated, in the first of these places that does:

1. in the file: a variable or field ``sr``, ``fs``, ``sample_rate``, ``sampling_rate`` or ``sample_rate_hz`` of a .mat;
   a comment ``# sample_rate_hz: 25600`` or a column ``time``, ``time_s`` or ``t`` in seconds of a .csv;
2. in a file named ``sample_rate_hz`` beside it that holds the number;
3. in the file's name, its folder's or that one's folder's: ``12k``, ``48kHz``, ``25600hz``.

Understood are the bearing data of MFPT (a struct ``bearing`` with ``gs`` and ``sr``) and of CWRU (``X097_DE_time``: the
drive end's sensor, else the fan end's, else the base's), any .mat with one signal, and a .csv with a column a channel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.frame import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from whirr.errors import RecordingError
from whirr.recordings.audio import RecordingInfo
from whirr.recordings.samples import Float32

TABLE_SUFFIXES: Final = (".mat", ".csv")
FULL_SCALE_G: Final = 64.0
RATE_FILE: Final = "sample_rate_hz"
_RATE_NAMES: Final = ("sr", "fs", "sample_rate", "sampling_rate", "sample_rate_hz")
_TIME_NAMES: Final = ("time", "time_s", "t")
_CWRU = re.compile(r"X(\d+)_(DE|FE|BA)_time")
_RATE_IN_NAME = re.compile(r"(?<![a-z\d.])(\d+(?:\.\d+)?)(k(?:hz)?|hz)(?![a-z\d])", re.IGNORECASE)
_RATE_COMMENT = re.compile(r"#\s*sample_rate_hz\s*[:=]\s*(\S+)\s*")
_MOST_HEADER_LINES: Final = 20
_LEAST_SAMPLES: Final = 16  # fewer values are a parameter, no signal


def is_table(path: Path) -> bool:
    """Return whether a file is a table of samples: any .mat, but of .csv only what states its rate.

    Other tables are kept beside recordings as CSV: labels, times, statistics.
    """
    if path.suffix.lower() == ".mat":
        return True
    try:
        head = _Head.of(path)
    except (OSError, UnicodeDecodeError, RecordingError):
        return False
    states_rate = head.rate_hz is not None or head.time_column is not None or _rate_beside(path) is not None
    return states_rate and head.numbers


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table's signal: float32 ``[channels, n]``, ±1 for ±64 g, and what it is."""

    samples: Float32
    info: RecordingInfo


def read_table(path: Path, columns: Sequence[str] = ()) -> Table:  # noqa: ARG001 - TODO
    """Return the signal of a table.

    Raises:
        RecordingError: The file can't be read, holds no signal or several that can't be told apart, or states no sample
            rate.
    """
    try:
        values, stated_hz = _read_mat(path) if path.suffix.lower() == ".mat" else _read_csv(path)
    except OSError as error:
        raise RecordingError(f"{path}: can't be read ({error.strerror})") from None
    if len(values) > MAX_CHANNELS:
        raise RecordingError(f"{path}: {len(values)} channels; expected at most {MAX_CHANNELS}")
    rate_hz = stated_hz or _rate_beside(path)
    if rate_hz is None:
        raise RecordingError(
            f"{path}: states no sample rate; expected one of {', '.join(_RATE_NAMES)} in it, a file {RATE_FILE!r} "
            "beside it, or its name or a folder's to say 12k, 48kHz or 25600hz"
        )
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise RecordingError(f"{path}: sample rate is {rate_hz:g} Hz; expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    samples = np.ascontiguousarray(values / FULL_SCALE_G, dtype=np.float32)
    unfit = f"a table ({path.suffix}); expected WAV (PCM, float) or FLAC"
    return Table(
        samples, RecordingInfo(round(rate_hz), len(samples), samples.shape[1], "float32", "table", True, unfit)
    )


def _rate_beside(path: Path) -> float | None:
    """Return the rate that a file beside the table, its name or its folders' names state."""
    beside = path.parent / RATE_FILE
    if beside.is_file():
        return _number(beside.read_text(errors="replace").strip(), f"{beside}")
    folder = path.absolute().parent
    for name in (path.stem, folder.name, folder.parent.name):
        if match := _RATE_IN_NAME.search(name.replace("_", " ").replace("-", " ")):
            return float(match[1]) * (1000 if match[2].lower().startswith("k") else 1)
    return None


# MATLAB


def _read_mat(path: Path) -> tuple[NDArray[Any], float | None]:
    """Return float [channel, n] and the stated rate in Hz."""
    from scipy.io import loadmat

    try:
        variables = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    except NotImplementedError:
        raise RecordingError(f"{path}: a MATLAB 7.3 file; expected one saved with -v7 or older") from None
    except OSError:
        raise
    except Exception as error:  # whatever bytes that are no .mat make of the reader
        raise RecordingError(f"{path}: no MATLAB file ({type(error).__name__}: {error})") from None
    variables |= dict(_fields(variables))
    return _mat_signal(variables, path), _mat_rate(variables)


def _fields(variables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of structs."""
    for value in variables.values():
        if isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
            for name in value.dtype.names:
                yield name, value[name].item()


def _mat_signal(variables: Mapping[str, Any], path: Path) -> NDArray[Any]:
    signals = {name: value for name, value in variables.items() if _is_signal(value)}
    names = _cwru_names(list(signals), path) or (["gs"] if "gs" in signals else list(signals))
    if len(names) != 1:
        found = ", ".join(sorted(names)) or "no signal"
        raise RecordingError(f"{path}: holds {found}; expected one signal, X…_DE_time as CWRU or bearing.gs as MFPT")
    signal = np.atleast_2d(np.squeeze(signals[names[0]]))
    return signal if signal.shape[0] <= signal.shape[1] else signal.T


def _cwru_names(names: list[str], path: Path) -> list[str]:
    """Return the one variable to take of a CWRU file, if it is one; some hold a neighbour's recording too."""
    found = {name: match for name in names if (match := _CWRU.fullmatch(name))}
    own = {name: match for name, match in found.items() if match[1].lstrip("0") == path.stem.lstrip("0")} or found
    return sorted(own, key=lambda name: (("DE", "FE", "BA").index(own[name][2]), name))[:1]


def _is_signal(value: Any) -> bool:
    numeric = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
    return numeric and value.ndim == 2 and value.size >= _LEAST_SAMPLES and min(value.shape) <= MAX_CHANNELS


def _mat_rate(variables: Mapping[str, Any]) -> float | None:
    for name, value in variables.items():
        if name.lower() in _RATE_NAMES and isinstance(value, np.ndarray) and value.size == 1:
            return float(value.item())
    return None


# Text


class _Head:
    """The first lines of a .csv: comments, names of columns, and whether numbers follow.

    Attributes:
        rate_hz: What a comment states, or None.
        skipped: Lines before the numbers.
        delimiter: Between columns; None for blanks.
        columns: Names, or empty.
        numbers: Whether the first line after them holds numbers alone.
    """

    def __init__(self, lines: list[str], path: Path) -> None:
        self.rate_hz: float | None = None
        self.skipped = 0
        self.delimiter: str | None = None
        self.columns: list[str] = []
        self.numbers = False
        for line in lines:
            if line.startswith("#") or not line.strip():
                if match := _RATE_COMMENT.fullmatch(line.strip()):
                    self.rate_hz = _number(match[1], f"{path}: sample_rate_hz")
            else:
                self.delimiter = next((mark for mark in ";,\t" if mark in line), None)
                fields = [field.strip() for field in line.split(self.delimiter)]
                self.numbers = all(_is_number(field) for field in fields)
                if self.numbers or self.columns:
                    return
                self.columns = [field.strip('"').lower() for field in fields]
            self.skipped += 1

    @classmethod
    def of(cls, path: Path) -> _Head:
        """Read the first lines of a file."""
        with path.open(encoding="utf-8-sig") as file:
            return cls([line for line, _ in zip(file, range(_MOST_HEADER_LINES), strict=False)], path)

    @property
    def time_column(self) -> int | None:
        """Which column holds the time, or None."""
        return next((index for index, name in enumerate(self.columns) if name in _TIME_NAMES), None)


def _read_csv(path: Path) -> tuple[NDArray[Any], float | None]:
    """Return float [channel, n] and the stated rate in Hz."""
    try:
        head = _Head.of(path)
        table = np.loadtxt(path, delimiter=head.delimiter, skiprows=head.skipped, ndmin=2, encoding="utf-8-sig").T
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: no table of numbers ({error})") from None
    if head.time_column is None:
        return table, head.rate_hz
    times = table[head.time_column]
    signal = np.delete(table, head.time_column, axis=0)
    if not len(signal):
        raise RecordingError(f"{path}: holds a time and nothing else; expected a column for each channel")
    return signal, head.rate_hz or _rate_of(times, path)


def _rate_of(times: NDArray[Any], path: Path) -> float:
    """Return the rate of evenly spaced times in seconds."""
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else 0.0
    if not step > 0 or np.abs(steps - step).max() > 0.5 * step:
        raise RecordingError(f"{path}: times are not evenly spaced in seconds (median step {step:g} s)")
    return (len(times) - 1) / float(times[-1] - times[0])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, what: str) -> float:
    if not _is_number(text):
        raise RecordingError(f"{what} is {text!r}; expected a number of samples per second")
    return float(text)
