"""What the commands that read recordings print: what a folder holds, which features suit it, what can't be used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from commands._output import print_line, print_warning
from recordings.find import Problem
from trainer.feature_choice import Choice
from trainer.recording_set import RecordingSet, unusable
from trainer.screening import LeftOut
from whirr.counts import counted
from whirr.durations import as_duration

NAMED = 5  # files that can't be used, and machines, that are shown by name


def print_lines(lines: Sequence[str]) -> None:
    """Print lines on stdout; square brackets in them are text."""
    for line in lines:
        print_line(line)


def found_lines(found: RecordingSet) -> list[str]:
    """Return what a folder holds: recordings, machines, seconds, and sample rates where they are mixed."""
    machines = [f"{machine} {count}" for machine, count in found.machines.items() if machine is not None]
    named = f": {', '.join(machines[:NAMED])}{', …' if len(machines) > NAMED else ''}" if machines else ""
    whose = f" of {counted(len(machines), 'machine')}" if machines else ""
    count = len(found.recordings)
    lines = [f"data       {counted(count, 'recording')}{whose}, {as_duration(found.duration_s)}{named}"]
    if found.left_out:
        lines.append(f"           left out: {', '.join(f'{count} {what}' for what, count in found.left_out)}")
    if len(found.rates_hz) > 1:
        rates = ", ".join(f"{count} at {rate_hz} Hz" for rate_hz, count in found.rates_hz.most_common())
        lines.append(f"           mixed sample rates ({rates}); resampled to the model's")
    return lines


def feature_lines(choice: Choice) -> list[str]:
    """Return which features were taken, and why."""
    f = choice.features
    channels = counted(f.channels, "channel", "channels as one signal")
    bands = f"{f.sample_rate_hz} Hz, {channels}, {f.bands} {f.scale} bands to {f.fmax_hz:g} Hz"
    spectra = f"n_fft {f.n_fft}, hop {f.hop}, windows of {f.window_s:.3g} s ({f.window_columns} columns)"
    return [f"features   {choice.why}", f"           {bands}, {spectra}"]


def warn_of(problems: Sequence[Problem]) -> None:
    """Name the first files that can't be used, and count them all where there are many."""
    for problem in problems[:NAMED]:
        print_warning(f"{problem.name}: {problem.reason}; not used")
    if len(problems) > NAMED:
        reasons: Counter[str] = Counter()
        for problem in problems:
            reasons[re.split(r" \(|[:;]", problem.reason)[0]] += problem.count
        told = ", ".join(f"{why} ({counted(count, 'file')})" for why, count in reasons.most_common(3))
        often = "Why" if len(reasons) <= 3 else "Most often"
        print_warning(f"{unusable(problems)} files in all are not used. {often}: {told}")


def warn_of_screening(left_out: Sequence[LeftOut], remarks: Sequence[Problem]) -> None:
    """Name the first segments that are not used, and the first files that differ from the others; count them all."""
    for one in left_out[:NAMED]:
        print_warning(f"{one.name}: {one.reason} from {one.start_s:.4g} to {one.stop_s:.4g} s; that is left out")
    if len(left_out) > NAMED:
        reasons = Counter(one.reason.partition(" of ")[0] for one in left_out)
        files = len({one.name for one in left_out})
        told = ", ".join(f"{count} {why}" for why, count in reasons.most_common(3))
        print_warning(f"{len(left_out)} segments of {counted(files, 'file')} left out: {told}")
    for remark in remarks[:NAMED]:
        print_warning(f"{remark.name}: {remark.reason}; used all the same")
    if len(remarks) > NAMED:
        print_warning(f"{len(remarks)} files differ from the others")
