"""Loops over samples, bins and bands, compiled for the processor at hand.

The columns of a spectrum stand side by side, :data:`LANES` at a time, in the lanes of the processor's vectors: what is
done to one is done to all by the same instructions, in the same order as if it stood alone. So nothing depends on a
column's neighbours, nor on how wide the vectors are: the compiler may not reorder a sum. It may where a whole signal's
or a column's samples are added up in double precision (:func:`_compiled_sums`); no neighbour enters there.

All of it is in one module: numba's cache takes note of changes in a function's own file alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32 or float64


class TransformTables(NamedTuple):
    """What a transform takes, as the functions below say; ``turns`` are those of all passes, one after the other."""

    window: Floats
    pair: NDArray[Any]
    turns: Floats
    order: NDArray[np.int64]
    cosines: Floats
    sines: Floats


class Bank(NamedTuple):
    """A sparse filterbank (CSR), in which each band has a multiple of four weights, zeros among them.

    Attributes:
        begins, bins, weights: Where each band's weights begin, their bins, and they.
        peaks: The largest weight of each band.
        shares: When single precision is enough (:func:`doubtful`).
        floor: What energies are never below.
    """

    begins: NDArray[np.int32]
    bins: NDArray[np.int32]
    weights: Floats
    peaks: Floats
    shares: Floats
    floor: float


class Cut(NamedTuple):
    """How signals are cut: samples of a signal and from a column to the next; and the roll-off's share of it all."""

    length: int
    hop: int
    rolloff_share: float


class Found(NamedTuple):
    """What is found of columns, numbered through all signals.

    Attributes:
        energies: float32 ``[signals, bands, columns]``.
        mel_energies: The same of the cepstrum's bands, where they are others.
        total, least: The sum and the least of each column's power.
        doubt: What :func:`doubtful` finds.
        shape: Centroid, bandwidth and roll-off in bins, and of each octave the peak and the valley,
            ``[columns of all signals, 3 + 2 * octaves]``.
    """

    energies: NDArray[np.float32]
    mel_energies: NDArray[np.float32]
    total: Floats
    least: Floats
    doubt: NDArray[np.bool_]
    shape: NDArray[np.float64]


LANES: Final = 32  # loops over fewer are unrolled before they could become vectors
TINY: Final = float(np.finfo(np.float32).tiny)

_F = TypeVar("_F", bound=Callable[..., Any])


def _compiled(function: _F, fastmath: frozenset[str] = frozenset()) -> _F:
    """Compile a function at its first call; the result is kept on disk, for this and every later process.

    Raises:
        RuntimeError: There is no place to keep it.
    """
    return njit(  # type: ignore[no-any-return]
        cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath) or False
    )(function)


def _compiled_sums(function: _F) -> _F:
    """Compile a function whose sums may be taken in the order that suits the processor."""
    return _compiled(function, frozenset({"reassoc"}))


@_compiled
def four(
    ar: float, ai: float, br: float, bi: float, cr: float, ci: float, dr: float, di: float
) -> tuple[float, float, float, float, float, float, float, float]:
    """Return a transform of four points."""
    even_r, even_i, odd_r, odd_i = ar + cr, ai + ci, br + dr, bi + di
    minus_r, minus_i, turned_r, turned_i = ar - cr, ai - ci, di - bi, br - dr
    return (
        even_r + odd_r, even_i + odd_i, minus_r - turned_r, minus_i - turned_i,
        even_r - odd_r, even_i - odd_i, minus_r + turned_r, minus_i + turned_i,
    )  # fmt: skip


@_compiled
def eight(
    ar: float, ai: float, br: float, bi: float, cr: float, ci: float, dr: float, di: float,
    er: float, ei: float, fr: float, fi: float, gr: float, gi: float, hr: float, hi: float, root: float,
) -> tuple[float, ...]:  # fmt: skip
    """Return a transform of eight points; ``root`` is the root of a half, in their precision."""
    evens = four(ar + er, ai + ei, br + fr, bi + fi, cr + gr, ci + gi, dr + hr, di + hi)
    mr, mi, nr, ni = br - fr, bi - fi, dr - hr, di - hi
    odds = four(
        ar - er, ai - ei, root * (mr + mi), root * (mi - mr),
        ci - gi, gr - cr, root * (ni - nr), -root * (nr + ni),
    )  # fmt: skip
    return (
        evens[0], evens[1], odds[0], odds[1], evens[2], evens[3], odds[2], odds[3],
        evens[4], evens[5], odds[4], odds[5], evens[6], evens[7], odds[6], odds[7],
    )  # fmt: skip


@_compiled
def first_pass(x: Floats, y: Floats, turns: Floats) -> None:
    """The first pass of an FFT, as :func:`pass_of_eight`, of points as :func:`load` puts them.

    Args:
        x: From, ``[points, LANES, (re, im)]``, flat.
        y: To, ``[points, (re, im), LANES]``, flat.
        turns: ``[points / 8, 15]``.
    """
    part = len(turns)
    of = x.reshape(8, part, 2 * LANES)
    to = y.reshape(part, 16 * LANES)
    for at in range(part):
        own = turns[at]
        for lane in range(LANES):
            r, i = 2 * lane, 2 * lane + 1
            found = eight(
                of[0, at, r], of[0, at, i], of[1, at, r], of[1, at, i], of[2, at, r], of[2, at, i],
                of[3, at, r], of[3, at, i], of[4, at, r], of[4, at, i], of[5, at, r], of[5, at, i],
                of[6, at, r], of[6, at, i], of[7, at, r], of[7, at, i], own[14],
            )  # fmt: skip
            to[at, lane] = found[0]
            to[at, LANES + lane] = found[1]
            for one in range(1, 8):
                cosine, sine, real, imaginary = own[2 * one - 2], own[2 * one - 1], found[2 * one], found[2 * one + 1]
                to[at, 2 * one * LANES + lane] = cosine * real - sine * imaginary
                to[at, (2 * one + 1) * LANES + lane] = cosine * imaginary + sine * real


@_compiled
def pass_of_eight(x: Floats, y: Floats, turns: Floats, part: int, stride: int) -> None:
    """One pass of an FFT of ``8 * part`` points: Stockham's decimation in frequency with constant geometry.

    Each pass reads points that are an eighth apart and writes eight in a row, so the result is in digit-reversed order.
    (M. C. Pease, J. ACM 15 (2), 1968, for the geometry; C. Van Loan, Computational Frameworks for the FFT, 1992, 1.7.)

    Args:
        x, y: From and to, ``[8 * part, (re, im), LANES]``, flat.
        turns: ``[part / stride, 15]``: cosine and sine of one to seven steps, and the root of a half.
        part: An eighth of the points.
        stride: How many transforms are interleaved: 8, 64 …
    """
    of = x.reshape(8, part, 2 * LANES)
    to = y.reshape(part, 16 * LANES)
    for step in range(part // stride):
        own = turns[step]
        for each in range(stride):
            at = step * stride + each
            for lane in range(LANES):
                i = LANES + lane
                found = eight(
                    of[0, at, lane], of[0, at, i], of[1, at, lane], of[1, at, i], of[2, at, lane], of[2, at, i],
                    of[3, at, lane], of[3, at, i], of[4, at, lane], of[4, at, i], of[5, at, lane], of[5, at, i],
                    of[6, at, lane], of[6, at, i], of[7, at, lane], of[7, at, i], own[14],
                )  # fmt: skip
                to[at, lane] = found[0]
                to[at, LANES + lane] = found[1]
                for one in range(1, 8):
                    cosine, sine = own[2 * one - 2], own[2 * one - 1]
                    real, imaginary = found[2 * one], found[2 * one + 1]
                    to[at, 2 * one * LANES + lane] = cosine * real - sine * imaginary
                    to[at, (2 * one + 1) * LANES + lane] = cosine * imaginary + sine * real


@_compiled
def pass_of_four(x: Floats, y: Floats, quarter: int) -> None:
    """The last pass, where four points are left of each transform; as :func:`pass_of_eight`, but nothing is turned."""
    of = x.reshape(4, quarter, 2 * LANES)
    to = y.reshape(quarter, 8 * LANES)
    for at in range(quarter):
        for lane in range(LANES):
            found = four(
                of[0, at, lane], of[0, at, LANES + lane], of[1, at, lane], of[1, at, LANES + lane],
                of[2, at, lane], of[2, at, LANES + lane], of[3, at, lane], of[3, at, LANES + lane],
            )  # fmt: skip
            for one in range(8):
                to[at, one * LANES + lane] = found[one]


@_compiled
def pass_of_two(x: Floats, y: Floats, half: int) -> None:
    """The last pass, where two points are left; as :func:`pass_of_four`."""
    of = x.reshape(2, half, 2 * LANES)
    to = y.reshape(half, 4 * LANES)
    for at in range(half):
        for lane in range(LANES):
            ar, ai, br, bi = of[0, at, lane], of[0, at, LANES + lane], of[1, at, lane], of[1, at, LANES + lane]
            to[at, lane] = ar + br
            to[at, LANES + lane] = ai + bi
            to[at, 2 * LANES + lane] = ar - br
            to[at, 3 * LANES + lane] = ai - bi


@_compiled
def load(
    samples: Floats, starts: NDArray[np.int64], window: Floats, pair: NDArray[Any], scratch: Floats, to: Floats
) -> None:
    """Put columns side by side under a window, as complex numbers of an even and an odd sample.

    Args:
        samples: Flat; of all signals one after the other.
        starts: Where each lane's column begins, ``[LANES]``.
        window: ``[n_fft]``.
        pair: Of any length; its type is as wide as two samples, which are moved as one.
        scratch: ``[LANES, 64]``, flat.
        to: ``[n_fft / 2, LANES, (even, odd)]``, flat.
    """
    rows = to.view(pair.dtype).reshape(len(window) // 2, LANES)
    windowed = scratch.reshape(LANES, 64)
    pairs = scratch.view(pair.dtype).reshape(LANES, 32)
    for first in range(0, len(window), 64):  # so that what is turned round stays in the nearest cache
        weights = window[first : first + 64]
        for lane in range(LANES):
            own = samples[starts[lane] + first : starts[lane] + first + 64]
            for at in range(64):
                windowed[lane, at] = own[at] * weights[at]
        for at in range(32):
            for lane in range(LANES):
                rows[first // 2 + at, lane] = pairs[lane, at]


@_compiled
def squared(z: Floats, order: NDArray[np.int64], cosines: Floats, sines: Floats, power: Floats, sums: Floats) -> None:
    """Take the power of a real signal's bins from the half-length transform of its even and odd samples.

    (W. H. Press et al., Numerical Recipes, 12.3.2.) The window holds a factor of a half, so that none is needed here.

    Args:
        z: The transform, ``[half, (re, im), LANES]``, flat.
        order: Where each of its coefficients is.
        cosines, sines: Of each bin's angle, ``[half]``.
        power: Gets the power, ``[half + 1, LANES]``, flat.
        sums: Gets its sum over the bins, and the least of it, ``[2, LANES]``, flat.
    """
    half = len(order)
    of = z.reshape(half, 2 * LANES)
    to = power.reshape(half + 1, LANES)
    for lane in range(LANES):
        at_zero = 2 * (of[0, lane] + of[0, LANES + lane])
        at_end = 2 * (of[0, lane] - of[0, LANES + lane])
        to[0, lane] = at_zero * at_zero
        to[half, lane] = at_end * at_end
        sums[lane] = to[0, lane] + to[half, lane]
        sums[LANES + lane] = min(to[0, lane], to[half, lane])
    for k in range(1, half):
        cosine, sine = cosines[k], sines[k]
        a, b = order[k], order[half - k]
        for lane in range(LANES):
            even_r, even_i = of[a, lane] + of[b, lane], of[a, LANES + lane] - of[b, LANES + lane]
            odd_r, odd_i = of[a, LANES + lane] + of[b, LANES + lane], of[b, lane] - of[a, lane]
            r = even_r + (cosine * odd_r - sine * odd_i)
            i = even_i + (cosine * odd_i + sine * odd_r)
            own = r * r + i * i
            to[k, lane] = own
            sums[lane] += own
            sums[LANES + lane] = own if own < sums[LANES + lane] else sums[LANES + lane]


@_compiled
def put(energies: Floats, columns: NDArray[np.int64], to: NDArray[np.float32]) -> None:
    """Put the bands of columns in their places.

    Args:
        energies: ``[bands, LANES]``, flat.
        columns: Their numbers, at most ``LANES``.
        to: ``[signals, bands, columns]``.
    """
    _, bands, per_signal = to.shape
    rows = energies.reshape(bands, LANES)
    for lane in range(len(columns)):
        own = to[columns[lane] // per_signal]
        place = columns[lane] % per_signal
        for band in range(bands):
            own[band, place] = rows[band, lane]


@_compiled
def filtered(power: Floats, bank: Bank, energies: Floats) -> None:
    """Sum the power in each band.

    Args:
        power: ``[bins, LANES]``, flat.
        bank: The bands.
        energies: Gets the sums, ``[bands, LANES]``, flat.
    """
    begins, bins, weights = bank.begins, bank.bins, bank.weights
    to = energies.reshape(len(begins) - 1, LANES)
    of = power.reshape(len(power) // LANES, LANES)
    for band in range(len(begins) - 1):
        for lane in range(LANES):
            to[band, lane] = 0
        for at in range(begins[band], begins[band + 1], 4):
            w0, w1, w2, w3 = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
            b0, b1, b2, b3 = bins[at], bins[at + 1], bins[at + 2], bins[at + 3]
            for lane in range(LANES):
                to[band, lane] += (w0 * of[b0, lane] + w1 * of[b1, lane]) + (w2 * of[b2, lane] + w3 * of[b3, lane])


@_compiled
def doubtful(
    energies: Floats, total: Floats, peak_weights: Floats, shares: Floats, floor: float, found: NDArray[np.bool_]
) -> None:
    """Tell which columns have a band that single precision may get wrong.

    Args:
        energies: ``[bands, LANES]``, flat.
        total: ``[LANES]``.
        peak_weights: The largest weight of each band.
        shares: Of the total that a band must have to be beyond doubt; of the strongest band, below which it may be
            off; of the total, below which it may be anything.
        floor: What energies are never below.
        found: Gets the answer, ``[LANES]``.
    """
    of = energies.reshape(len(peak_weights), LANES)
    strongest = np.zeros(LANES, energies.dtype)
    for band in range(len(peak_weights)):
        for lane in range(LANES):
            strongest[lane] = of[band, lane] if of[band, lane] > strongest[lane] else strongest[lane]
    for lane in range(LANES):
        found[lane] = False
    near, below, far = shares[0], shares[1], shares[2]
    for band in range(len(peak_weights)):
        weight = peak_weights[band]
        for lane in range(LANES):
            energy, share = of[band, lane], weight * total[lane]
            weak = energy < near * share
            heard = (energy > below * strongest[lane]) | ((energy < far * share) & (share > floor))
            found[lane] |= weak & heard


@_compiled
def moments(magnitude: Floats, sums: NDArray[np.float64]) -> None:
    """Take the root of the power in place, and the sums of 1, k and k² times it over the bins k.

    Args:
        magnitude: The power, ``[bins, LANES]``, flat; becomes the magnitude.
        sums: Gets them, ``[3, LANES]``, flat. In double precision: what is told from them cancels in single.
    """
    of = magnitude.reshape(len(magnitude) // LANES, LANES)
    for lane in range(3 * LANES):
        sums[lane] = 0
    for k in range(len(of)):
        first, second = float(k), float(k) * float(k)
        for lane in range(LANES):
            root = np.sqrt(of[k, lane])
            of[k, lane] = root
            own = np.float64(root)
            sums[lane] += own
            sums[LANES + lane] += first * own
            sums[2 * LANES + lane] += second * own


@_compiled
def rolled_off(
    magnitude: Floats, threshold: NDArray[np.float64], running: NDArray[np.float64], count: NDArray[np.float64]
) -> None:
    """Count the bins up to which the running sum stays below a threshold.

    Args:
        magnitude: ``[bins, LANES]``, flat.
        threshold: ``[LANES]``.
        running: Scratch, ``[LANES]``.
        count: Gets the counts, ``[LANES]``.
    """
    of = magnitude.reshape(len(magnitude) // LANES, LANES)
    for lane in range(LANES):
        running[lane] = 0
        count[lane] = 0
    for k in range(len(of)):
        for lane in range(LANES):
            running[lane] += np.float64(of[k, lane])
            count[lane] += 1.0 if running[lane] < threshold[lane] else 0.0


@_compiled
def four_largest_and_smallest(high: Floats, low: Floats, bins: int, rest: Floats, kept: Floats) -> None:
    """Keep the four largest of some bins, and the four smallest of others.

    Args:
        high: Those of which the largest are kept, ``[bins, LANES]``, flat.
        low: Those of which the smallest are.
        bins: How many.
        rest: Gets what is not kept, in any order, four infinities among it: ``[bins, (high, low), LANES]``, flat.
        kept: Gets them, from the largest and from the smallest on, ``[(4 largest, 4 smallest), LANES]``, flat.
    """
    highs, lows = high.reshape(len(high) // LANES, LANES), low.reshape(len(low) // LANES, LANES)
    left = rest.reshape(len(rest) // (2 * LANES), 2 * LANES)
    best = kept.reshape(1, 8 * LANES)
    for lane in range(4 * LANES):
        best[0, lane] = -np.inf
    for lane in range(4 * LANES, 8 * LANES):
        best[0, lane] = np.inf
    for k in range(bins):
        for lane in range(LANES):
            # What a place does not keep moves on to the next.
            own, old = highs[k, lane], best[0, lane]
            best[0, lane] = own if own > old else old
            own, old = old if own > old else own, best[0, LANES + lane]
            best[0, LANES + lane] = own if own > old else old
            own, old = old if own > old else own, best[0, 2 * LANES + lane]
            best[0, 2 * LANES + lane] = own if own > old else old
            own, old = old if own > old else own, best[0, 3 * LANES + lane]
            best[0, 3 * LANES + lane] = own if own > old else old
            left[k, lane] = old if own > old else own
            own, old = lows[k, lane], best[0, 4 * LANES + lane]
            best[0, 4 * LANES + lane] = own if own < old else old
            own, old = old if own < old else own, best[0, 5 * LANES + lane]
            best[0, 5 * LANES + lane] = own if own < old else old
            own, old = old if own < old else own, best[0, 6 * LANES + lane]
            best[0, 6 * LANES + lane] = own if own < old else old
            own, old = old if own < old else own, best[0, 7 * LANES + lane]
            best[0, 7 * LANES + lane] = own if own < old else old
            left[k, LANES + lane] = old if own < old else own


@_compiled
def extremes(magnitude: Floats, start: int, stop: int, count: int, scratch: Floats, found: Floats) -> None:
    """Return the means of the largest and of the smallest ``count`` bins from ``start`` to ``stop`` (exclusive).

    Args:
        magnitude: ``[bins, LANES]``, flat.
        start, stop, count: As in :class:`~stream_app.pipeline.statistics.Octave`.
        scratch: At least ``[8 + 4 * (stop - start), LANES]``, flat.
        found: Gets the means, ``[(largest, smallest), LANES]``, flat.
    """
    bins = stop - start
    kept, rest = scratch[: 8 * LANES], scratch[8 * LANES : (8 + 2 * bins) * LANES]
    for lane in range(2 * LANES):
        found[lane] = 0
    for first in range(0, count, 4):
        if first == 0:
            own = magnitude[start * LANES : stop * LANES]
            four_largest_and_smallest(own, own, bins, rest, kept)
        else:
            highs, lows = scratch[(8 + 2 * bins) * LANES :], scratch[(8 + 3 * bins) * LANES :]
            for k in range(bins):
                for lane in range(LANES):
                    highs[k * LANES + lane] = rest[2 * k * LANES + lane]
                    lows[k * LANES + lane] = rest[(2 * k + 1) * LANES + lane]
            four_largest_and_smallest(highs, lows, bins, rest, kept)
        for at in range(min(4, count - first)):
            for lane in range(LANES):
                found[lane] += kept[at * LANES + lane]
                found[LANES + lane] += kept[(4 + at) * LANES + lane]
    for lane in range(2 * LANES):
        found[lane] /= count


@_compiled
def spectra(
    samples: Floats,
    cut: Cut,
    chosen: NDArray[np.int64],
    transform: TransformTables,
    bands: Bank,
    mel: Bank,
    octaves: NDArray[np.int64],
    found: Found,
    wanted: tuple[bool, bool],
) -> None:
    """Compute columns of spectra, and of each what is asked for. Columns are numbered through all signals.

    Args:
        samples: Of all signals one after the other, ``[signals * cut.length]``.
        cut: How signals are cut into columns.
        chosen: The columns.
        transform: Tables of the transform.
        bands: Whose energies are the model's.
        mel: Those of the cepstrum, where they are others; else without any.
        octaves: Of the contrast, ``[octave, (start, stop, count)]``.
        found: Gets what is found.
        wanted: Whether bands are, and whether statistics are.
    """
    window, pair, turns, order, cosines, sines = transform
    energies, mel_energies, total, least, doubt, shape = found
    want_bands, want_statistics = wanted
    half = len(order)
    per_signal = energies.shape[2]
    x, y = np.empty(2 * half * LANES, window.dtype), np.empty(2 * half * LANES, window.dtype)
    blocks = np.empty(64 * LANES, window.dtype)
    power = np.empty((half + 1) * LANES, window.dtype)
    own_energies = np.empty((len(bands.begins) - 1) * LANES, window.dtype)
    own_mel = np.empty((len(mel.begins) - 1) * LANES, window.dtype)
    own_sums = np.empty(2 * LANES, window.dtype)
    own_doubt = np.empty(LANES, np.bool_)
    starts = np.empty(LANES, np.int64)
    sums, running, threshold, count = np.empty(3 * LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    widest = 0
    for octave in range(len(octaves)):
        widest = max(widest, octaves[octave, 1] - octaves[octave, 0])
    scratch, means = np.empty((8 + 4 * widest) * LANES, window.dtype), np.empty(2 * LANES, window.dtype)
    for first in range(0, len(chosen), LANES):
        here = min(LANES, len(chosen) - first)
        for lane in range(LANES):  # lanes without a column repeat the last one
            column = chosen[first + min(lane, here - 1)]
            starts[lane] = column // per_signal * cut.length + column % per_signal * cut.hop
        load(samples, starts, window, pair, blocks, x)
        first_pass(x, y, turns[: half // 8])
        a, b = y, x
        stride, at, left = 8, half // 8, half // 8
        while left >= 8:
            pass_of_eight(a, b, turns[at : at + left // 8], half // 8, stride)
            a, b = b, a
            at += left // 8
            left //= 8
            stride *= 8
        if left == 4:
            pass_of_four(a, b, half // 4)
            a, b = b, a
        elif left == 2:
            pass_of_two(a, b, half // 2)
            a, b = b, a
        squared(a, order, cosines, sines, power, own_sums)
        for lane in range(here):
            total[chosen[first + lane]] = own_sums[lane]
            least[chosen[first + lane]] = own_sums[LANES + lane]
        if want_bands:
            filtered(power, bands, own_energies)
            doubtful(own_energies, own_sums, bands.peaks, bands.shares, bands.floor, own_doubt)
            for lane in range(here):
                doubt[chosen[first + lane]] = own_doubt[lane]
            put(own_energies, chosen[first : first + here], energies)
        if not want_statistics:
            continue
        if len(mel.begins) > 1:
            filtered(power, mel, own_mel)
            put(own_mel, chosen[first : first + here], mel_energies)
        moments(power, sums)
        for lane in range(LANES):
            threshold[lane] = cut.rolloff_share * sums[lane]
        rolled_off(power, threshold, running, count)
        for lane in range(here):
            column = chosen[first + lane]
            whole = sums[lane] if sums[lane] >= TINY else 1.0
            centroid = sums[LANES + lane] / whole
            spread = sums[2 * LANES + lane] / whole - centroid * centroid
            shape[column, 0] = centroid
            shape[column, 1] = np.sqrt(max(spread, 0.0))
            shape[column, 2] = min(count[lane], half)
        for octave in range(len(octaves)):
            extremes(power, octaves[octave, 0], octaves[octave, 1], octaves[octave, 2], scratch, means)
            for lane in range(here):
                shape[chosen[first + lane], 3 + 2 * octave] = means[lane]
                shape[chosen[first + lane], 4 + 2 * octave] = means[LANES + lane]


@_compiled_sums
def square_sum(values: NDArray[np.float32]) -> float:
    """Return the sum of squares, taken in double precision."""
    total = 0.0
    for at in range(len(values)):
        total += np.float64(values[at]) * np.float64(values[at])
    return total


@_compiled
def time_domain(
    samples: NDArray[np.float32], n_fft: int, hop: int, deadband: float, found: NDArray[np.float64]
) -> None:
    """Take each column's root mean square, and its zero crossings.

    Args:
        samples: ``[signals, n]``.
        n_fft, hop: Samples in a column, and from one to the next.
        deadband: What is not below minus this counts as not negative.
        found: Gets both, ``[signals, (rms, crossings), columns]``.
    """
    signals, length = samples.shape
    below = np.float32(-deadband)
    crossed = np.empty(length - 1, np.int32)
    for signal in range(signals):
        before, after = samples[signal, :-1], samples[signal, 1:]
        for at in range(length - 1):
            crossed[at] = (before[at] < below) != (after[at] < below)
        for column in range(found.shape[2]):
            found[signal, 0, column] = np.sqrt(square_sum(samples[signal, column * hop : column * hop + n_fft]) / n_fft)
            crossings, own = 0, crossed[column * hop : column * hop + n_fft - 1]
            for at in range(len(own)):
                crossings += own[at]
            found[signal, 1, column] = crossings


@_compiled_sums
def decibel_means(logs: NDArray[np.float32], scale: float, top: float, found: NDArray[np.float64]) -> None:
    """Take means over the columns of natural logs as decibels, none further below a signal's largest than ``top``.

    Args:
        logs: ``[signals, rows, columns]``.
        scale: Decibels per neper.
        top: In decibels.
        found: Gets the means, ``[signals, rows]``.
    """
    signals, rows, columns = logs.shape
    for signal in range(signals):
        own = logs[signal].reshape(rows * columns)
        largest = own[0]
        for at in range(len(own)):
            largest = own[at] if own[at] > largest else largest
        least = np.float64(largest) * scale - top
        for row in range(rows):
            total = 0.0
            for column in range(columns):
                value = np.float64(own[row * columns + column]) * scale
                total += value if value > least else least
            found[signal, row] = total / columns


@_compiled_sums
def summarised(
    times: NDArray[np.float64],
    shape: NDArray[np.float64],
    n_fft: int,
    bin_hz: float,
    found: NDArray[np.float64],
    edges: NDArray[np.float32],
    least: float,
) -> None:
    """Take means over the columns of what :func:`time_domain` and :func:`spectra` have found.

    Args:
        times: ``[signals, (rms, crossings), columns]``.
        shape: ``[signals * columns, (centroid, bandwidth, roll-off, peak, valley, peak …)]``.
        n_fft: Samples in a column.
        bin_hz: Distance of two bins.
        found: Gets the first six statistics, ``[signals, 13]``.
        edges: Gets peaks and valleys of the octaves, ``[(peaks, valleys), signals, octaves, columns]``.
        least: What these are at least.
    """
    signals, _, columns = times.shape
    floor = np.float32(least)
    for signal in range(signals):
        rms, crossings, square = 0.0, 0.0, 0.0
        for column in range(columns):
            rms += times[signal, 0, column]
            crossings += times[signal, 1, column]
        rms /= columns
        for column in range(columns):
            square += (times[signal, 0, column] - rms) ** 2
        found[signal, 0] = rms
        found[signal, 1] = np.sqrt(square / columns)
        found[signal, 2] = crossings / columns / n_fft
        for one in range(3):
            total = 0.0
            for column in range(columns):
                total += shape[signal * columns + column, one]
            found[signal, 3 + one] = total / columns * bin_hz
        for column in range(columns):
            for octave in range(edges.shape[2]):
                for kind in range(2):
                    value = np.float32(shape[signal * columns + column, 3 + 2 * octave + kind])
                    edges[kind, signal, octave, column] = value if value > floor else floor


@_compiled_sums
def without_means(signals: NDArray[np.float32], negligible: float, found: NDArray[np.float32]) -> None:
    """Take each signal's mean from it.

    Args:
        signals: ``[signals, n]``.
        negligible: What may be left of a mean after it was taken off in single precision.
        found: Gets them, ``[signals, n]``.
    """
    for signal in range(len(signals)):
        own, to = signals[signal], found[signal]
        total = 0.0
        for at in range(len(own)):
            total += np.float64(own[at])
        mean = total / len(own)
        coarse = np.float32(mean)
        rest = np.float32(mean - np.float64(coarse))
        if abs(rest) <= negligible:
            rest = np.float32(0)
        for at in range(len(own)):
            to[at] = (own[at] - coarse) - rest


@_compiled_sums
def mean_square(samples: NDArray[np.float32]) -> float:
    """Return the mean square of one channel's samples, ``[n]``, without their mean."""
    total, square = 0.0, 0.0
    for at in range(len(samples)):
        total += np.float64(samples[at])
    mean = total / len(samples)
    for at in range(len(samples)):
        rest = np.float64(samples[at]) - mean
        square += rest * rest
    return square / len(samples)
