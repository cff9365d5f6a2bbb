"""Tables of samples: a laboratory's vibration, as MATLAB files (.mat) or numbers in text (.csv, .tsv, .txt).

Values are taken as acceleration in g; they are divided by 64, so that ±64 g is full scale. The sample rate must be
stated, in the first of these places that does:

1. in the file: a variable or field ``sr``, ``fs``, ``sample_rate``, ``sampling_rate`` or ``sample_rate_hz`` of a .mat;
   a line such as ``# sample_rate_hz: 25600`` or a column of times of a text;
2. in a file named ``sample_rate_hz`` beside it that holds the number;
3. in the file's name, its folder's or that one's folder's: ``48kHz``, ``25600hz``, or ``12k`` where what is around it
   gives it no other meaning, as in ``12k_drive_end``. Since a name may mean something else, a remark says so.

Understood are the bearing data of MFPT (a struct ``bearing`` with ``gs`` and ``sr``) and of CWRU (``X097_DE_time``: the
drive end's sensor, else the fan end's, else the base's), any .mat with signals of one length, and a text with a column
a channel. Which columns are channels is told by :mod:`recordings.columns`, or by whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recordings import columns as choice
from recordings import matlab, text
from recordings.audio import RecordingInfo
from recordings.columns import LEAST_SAMPLES, Selection
from recordings.samples import Float32
from recordings.sources import File
from schemas.errors import RecordingError
from schemas.frame import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ

TABLE_SUFFIXES: Final = (".mat", ".csv", ".tsv", ".txt")
FULL_SCALE_G: Final = 64.0
RATE_FILE: Final = "sample_rate_hz"
MOST_TEXT_BYTES: Final = 2 << 30
_RATE_NAMES: Final = ("sr", "fs", "sample_rate", "sampling_rate", "sample_rate_hz")
_CWRU = re.compile(r"X(\d+)_(DE|FE|BA)_time")
_RATE_IN_NAME = re.compile(r"(?<![a-z\d.,])(\d+(?:[.,]\d+)?) ?(k?hz)(?![a-z\d])", re.IGNORECASE)
_K_IN_NAME = re.compile(r"(?<![^ ])(\d+(?:[.,]\d+)?)k(?![^ ])", re.IGNORECASE)
# Words beside which a bare `12k` is a rate. Behind any other, as in `3k_rpm` or `10k_hours`, it may be anything.
_BEHIND_K: Final = re.compile(
    r"drive|fan|base|end|de|fe|ba|bearing|normal|baseline|healthy|good|ok|faults?|faulty|inner|outer|ball|race|ir|or|b|"
    r"anomaly|abnormal|bad|data|sampling|sampled|sps|fs|sr|rate|vibration|acceleration|accel|acc|signal|raw|mono|stereo|"
    r"x|y|z|train|test"
)
_BEFORE_K: Final = re.compile(
    r"n|rpm|speed|loads?|hours?|hrs?|h|minutes?|min|days?|km|miles|cycles?|revs?|revolutions|steps?|epochs?|iters?|"
    r"iterations?|torque|force|pressure|weight|mass|power|counts?|ohms?|samples?|rows|after|life|runtime|age|size"
)
# Columns of lists that are kept beside recordings: of labels, times, scores and statistics.
_LISTS: Final = frozenset({"path", "file", "filename", "recording", "machine", "machine_id", "frame_id"})
_RATES_DIFFER: Final = 0.02
# Lists by their names, whatever their columns are called.
_LIST_FILES: Final = frozenset({"labels", "label", "recordings", "readme", "times", "scores", "metadata", "results"})
_HOW: Final = (
    f"expected one of {', '.join(_RATE_NAMES)} in it (`# sample_rate_hz: 25600`), a column of times, a file "
    f"{RATE_FILE!r} beside it, or its name or a folder's to say 48kHz or 25600hz"
)
NO_RATE: Final = f"states no sample rate; {_HOW}"

Columns = dict[str, NDArray[np.float64] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table's signal: float32 ``[channels, n]``, ±1 for ±64 g, and what it is."""

    samples: Float32
    info: RecordingInfo


def is_table(path: Path) -> bool | None:
    """Return whether a file is a table of samples: any .mat, but of texts only what states its rate.

    Other texts are kept beside recordings: labels, times, statistics, licences. None for one that looks like samples,
    but states no rate.
    """
    if path.suffix.lower() == ".mat":
        return True
    try:
        with File(path) as source:
            head = text.decoded(source.read(0, text.HEAD_BYTES))
        layout = text.layout_of(head)
        rows = len(head.splitlines()) - layout.skipped
        if _LISTS & {name.lower() for name in layout.names} or rows < LEAST_SAMPLES:
            return False
        if layout.rate_hz is not None or layout.rate_problem or _states_beside(path):
            return True
        return _is_timed_or_unrated(path, layout, head)
    except (OSError, RecordingError):
        return False


def _is_timed_or_unrated(path: Path, layout: text.Layout, head: str) -> bool | None:
    """Return whether times give the rate of what states none; None of samples without times."""
    timed = _time_column(layout.names, layout.kinds)
    has_text = "text" in layout.kinds
    if timed is not None and not has_text:
        return True
    if timed is None and (has_text or path.stem.lower() in _LIST_FILES):
        return False
    found, _ = text.columns_of(head.rpartition("\n")[0], layout)
    if timed is not None:
        # Where there is text too, only what has the pace of samples.
        return choice.rate_of(_numbers(found[timed]), choice.time_unit_s(timed) or 0.0)[0] >= MIN_RATE_HZ
    return None if any(choice.why_no_signal(name, found[name]) is None for name in found) else False


def read_table(path: Path, columns: Sequence[str] = ()) -> Table:
    """Return the signal of a table.

    Args:
        path: The file.
        columns: The columns to take as channels, in order; empty: those that look like a signal.

    Raises:
        RecordingError: The file can't be read, holds no signal or several that can't be told apart, or states no sample
            rate.
    """
    try:
        with File(path) as source:
            read = _read_mat if path.suffix.lower() == ".mat" else _read_csv
            values, selection, stated_hz = read(source, path, columns)
            rate_hz = stated_hz
            if rate_hz is None and (beside := _rate_beside(path)) is not None:
                rate_hz, remarks = beside
                selection = replace(selection, remarks=(*selection.remarks, *remarks))
    except OSError as error:
        raise RecordingError(f"{path}: can't be read ({error.strerror})") from None
    except RecordingError as error:
        raise RecordingError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    if len(values) > MAX_CHANNELS:
        raise RecordingError(f"{path}: {len(values)} channels; expected at most {MAX_CHANNELS}")
    if rate_hz is None:
        raise RecordingError(f"{path}: {NO_RATE}")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        slow = "; are its times milliseconds? Then name the column time_ms" if rate_hz < MIN_RATE_HZ else ""
        raise RecordingError(f"{path}: sample rate is {rate_hz:g} Hz; expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz{slow}")
    with np.errstate(over="ignore"):  # an infinity is found as one
        samples = np.ascontiguousarray(values / FULL_SCALE_G, dtype=np.float32)
    unfit = f"a table ({path.suffix.lower()}); expected WAV (PCM, float) or FLAC"
    info = RecordingInfo(
        round(rate_hz), samples.shape[0], samples.shape[1], "float32", "table", True, unfit, columns=selection
    )
    return Table(samples, info)


def _states_beside(path: Path) -> bool:
    try:
        return _rate_beside(path) is not None
    except RecordingError:  # it states one that can't be taken: said when it is read
        return True


def _rate_beside(path: Path) -> tuple[float, tuple[tuple[str, str], ...]] | None:
    """Return the rate that a file beside the table, its name or its folders' names state, and remarks."""
    beside = path.parent / RATE_FILE
    if beside.is_file():
        with File(beside) as source:
            stated = source.read(0, 1000).decode(errors="replace").strip()
        value = text.stated_rate(stated)
        if value is None:
            raise RecordingError(f"{beside} is {stated[:40]!r}; expected a number of samples per second")
        return value, ()
    folder = path.absolute().parent
    for name in (path.stem, folder.name, folder.parent.name):
        if found := rate_in_name(name):
            said, rate_hz = found
            return rate_hz, (("the sample rate is taken from a name", f"{said!r} in {name!r} is {rate_hz:g} Hz"),)
    return None


def rate_in_name(name: str) -> tuple[str, float] | None:
    """Return what of a name states a rate, and that in Hz; None where nothing does.

    ``48kHz`` and ``25600hz`` do. A bare ``12k`` does where it ends the name, or is followed by a number or a word that
    belongs to recordings, and no word before it says what is counted.
    """
    plain = name.replace("_", " ").replace("-", " ")
    if match := _RATE_IN_NAME.search(plain):
        rate_hz = text.stated_rate(match[1], 1000 if match[2].lower() == "khz" else 1)
        return None if rate_hz is None else (match[0], rate_hz)
    for match in _K_IN_NAME.finditer(plain):
        before, after = (part.lower().split() for part in (plain[: match.start()], plain[match.end() :]))
        fits = not after or after[0].isdigit() or _BEHIND_K.fullmatch(after[0].rstrip("0123456789"))
        if fits and not (before and _BEFORE_K.fullmatch(before[-1])):
            rate_hz = text.stated_rate(match[1], 1000)
            return None if rate_hz is None else (match[0], rate_hz)
    return None


def _numbers(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert values is not None
    return values


# MATLAB


def _read_mat(source: File, path: Path, wanted: Sequence[str]) -> tuple[NDArray[Any], Selection, float | None]:
    """Return float [channel, n], what became of the variables, and the stated rate in Hz."""
    variables = matlab.read_variables(source)
    variables |= dict(_fields(variables))
    signals = {name: value for name, value in variables.items() if _is_signal(value)}
    names = [] if wanted else _cwru_names(list(signals), path) or (["gs"] if "gs" in signals else [])
    rate_hz = _mat_rate(variables)
    if names:
        values = _turned(signals[names[0]])
        left = tuple((name, f"{names[0]} was taken") for name in signals if name != names[0])
        return values, Selection(tuple(names), left), rate_hz
    columns = _mat_columns(signals)
    if not columns:
        raise RecordingError("holds no signal; expected one, X…_DE_time as CWRU or bearing.gs as MFPT")
    taken = {length for name in wanted if (length := _length_of(columns, name)) is not None}
    lengths = {len(_numbers(values)) for values in columns.values()}
    length = taken.pop() if len(taken) == 1 else max(lengths)
    if not wanted and len(lengths) > 1:
        found = ", ".join(f"{name} ({len(_numbers(values))})" for name, values in sorted(columns.items()))
        raise RecordingError(f"holds {found}; expected signals of one length, or --columns NAME,… to say which")
    alike: Columns = {name: values for name, values in columns.items() if len(_numbers(values)) == length}
    time = next((name for name in alike if choice.time_unit_s(name) is not None), None)
    channels, selection = choice.select(alike, wanted, time)
    if rate_hz is None and time is not None:
        rate_hz, remarks = choice.rate_of(_numbers(alike[time]), choice.time_unit_s(time) or 0.0)
        selection = replace(selection, remarks=(*selection.remarks, *remarks))
    return np.stack([_numbers(alike[name]) for name in channels]), selection, rate_hz


def _length_of(columns: Columns, name: str) -> int | None:
    values = columns.get(name)
    return None if values is None else len(values)


def _fields(variables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of structs."""
    for value in variables.values():
        if isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
            for name in value.dtype.names:
                yield name, value[name].item()


def _mat_columns(signals: Mapping[str, Any]) -> Columns:
    """Return each signal's channels; those of a variable with several are ``name.1``, ``name.2`` and so on."""
    columns: Columns = {}
    for name, value in signals.items():
        turned = _turned(value)
        for number, channel in enumerate(turned, start=1):
            columns[name if len(turned) == 1 else f"{name}.{number}"] = np.asarray(channel, np.float64)
    return columns


def _turned(value: Any) -> NDArray[Any]:
    signal = np.atleast_2d(np.squeeze(value))
    return signal if signal.shape[0] <= signal.shape[1] else signal.T


def _cwru_names(names: list[str], path: Path) -> list[str]:
    """Return the one variable to take of a CWRU file, if it is one; some hold a neighbour's recording too."""
    found = {name: match for name in names if (match := _CWRU.fullmatch(name))}
    own = {name: match for name, match in found.items() if match[1].lstrip("0") == path.stem.lstrip("0")} or found
    return sorted(own, key=lambda name: (("DE", "FE", "BA").index(own[name][2]), name))[:1]


def _is_signal(value: Any) -> bool:
    numeric = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
    return numeric and value.ndim == 2 and value.size >= LEAST_SAMPLES and min(value.shape) <= MAX_CHANNELS


def _mat_rate(variables: Mapping[str, Any]) -> float | None:
    for name, value in variables.items():
        numeric = isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiu"
        if name.lower() in _RATE_NAMES and numeric:
            return float(value.item())
    return None


# Text


def _read_csv(source: File, path: Path, wanted: Sequence[str]) -> tuple[NDArray[Any], Selection, float | None]:
    """Return float [channel, n], what became of the columns, and the stated rate in Hz."""
    if source.size > MOST_TEXT_BYTES:
        raise RecordingError(f"{source.size} bytes of text; at most {MOST_TEXT_BYTES} are read: convert it to WAV")
    content = text.decoded(source.read(0, source.size))
    layout = text.layout_of(content)
    if layout.rate_problem:
        raise RecordingError(layout.rate_problem)
    found, remarks = text.columns_of(content, layout)
    time = _time_column(layout.names, layout.kinds)
    if time not in found:
        time = None
    if time is not None and set(found) == {time}:
        raise RecordingError("holds a time and nothing else; expected a column for each channel")
    channels, selection = choice.select(found, wanted, time)
    values = np.stack([_numbers(found[name]) for name in channels])
    if np.isnan(values).any():
        channel, row = np.argwhere(np.isnan(values))[0]
        count = int(np.isnan(values).any(axis=0).sum())
        raise RecordingError(
            f"column {channels[channel]!r} is missing or nan in row {row + 1} ({count} rows in all); "
            "expected a number in each"
        )
    rate_hz = layout.rate_hz
    if time is not None:
        timed_hz, more = _checked_times(_numbers(found[time]), choice.time_unit_s(time) or 0.0, rate_hz)
        rate_hz, remarks = rate_hz or timed_hz, (*remarks, *more)
    if bool((values == np.rint(values)).all()) and np.abs(values).max() > FULL_SCALE_G:
        remarks = (*remarks, ("whole numbers, such as a converter's counts, are taken as g", path.name))
    return values, replace(selection, remarks=(*selection.remarks, *remarks)), rate_hz


def _checked_times(
    times: NDArray[np.float64], unit_s: float, stated_hz: float | None
) -> tuple[float, tuple[tuple[str, str], ...]]:
    rate_hz, remarks = choice.rate_of(times, unit_s)
    if stated_hz is not None and abs(rate_hz / stated_hz - 1) > _RATES_DIFFER:
        raise RecordingError(f"says {stated_hz:g} Hz, but its times are those of {rate_hz:.6g} Hz; expected one rate")
    return rate_hz, remarks


def _time_column(names: Sequence[str], kinds: Sequence[str]) -> str | None:
    """Return the name of the column that holds the times, or None."""
    timed = [name for name, kind in zip(names, kinds, strict=True) if kind == "time"]
    named = [
        name
        for name, kind in zip(names, kinds, strict=True)
        if kind == "number" and choice.time_unit_s(name) is not None
    ]
    return next(iter([*named, *timed]), None)
