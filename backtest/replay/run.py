"""A replay in process, from a folder to files of results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from backtest.judging import NOTHING, Heeded, judge
from backtest.replay.finding import Finder
from backtest.replay.output import results, write_dead_letters, write_summary
from backtest.replay.replay_options import START_US, ReplayConfig
from backtest.replay.routing import described, identity
from backtest.replay.summary import ReplayTally
from backtest.score_store import ScoreStore, StoredCounts, opened
from backtest.scoring import ScoredBatch, frame_ranges, jobs_for, score_all, tasks
from recordings.find import checked_folder
from stream_app.worker.champions import Champions
from whirr import __version__


class ReplayObserver:
    """Is told how a replay goes on; does nothing with it."""

    def on_looked(self, files: int) -> None:
        """So many files have been looked at."""

    def on_notes(self, notes: tuple[str, ...]) -> None:
        """This is to be said about recordings as they were read."""

    def on_found(self, counts: StoredCounts, jobs: int) -> None:
        """These are the recordings; so many processes score them."""

    def on_scored(self, answers: ScoredBatch) -> None:
        """A batch has been scored."""

    def on_judged(self, frames: int) -> None:
        """The alert rule has passed so many frames."""


def replay(
    config: ReplayConfig,
    champions: Champions,
    observer: ReplayObserver,
    heeded: Heeded = NOTHING,
) -> dict[str, Any]:
    """Score a folder's recordings, apply the alert rule, write the results, and return the summary.

    What an earlier run with the same options and models has scored is not scored again.

    Args:
        config: What is asked for.
        champions: The routes with their models; where nobody knows when recordings were made, the newest are taken.
        observer: Is told how it goes on.
        heeded: Windows and verdicts; left aside where nobody knows when recordings were made.

    Raises:
        SettingsError: ``config.out`` holds scores that were made otherwise.
        RecordingError: The folder holds no recording, or a file of labels or times can't be used.
        WhirrError: A scoring process ended.
    """
    checked_folder(config.folder, "recordings")  # before a restart forgets what is there
    depends_on = {**config.what_scores_depend_on, "model": identity(champions)}
    with opened(config.out, depends_on, restart=config.restart) as store:
        began_s = time.monotonic()
        found = Finder(config, store, champions.router, observer.on_looked).find()
        counts = store.counts()
        jobs = jobs_for(counts.frames - counts.done, config.jobs)
        observer.on_notes(found.notes)
        observer.on_found(counts, jobs)
        audio_s = 0.0

        def scored(answers: ScoredBatch) -> None:
            nonlocal audio_s
            audio_s += answers.audio_s
            observer.on_scored(answers)

        made_up = found.times == "pace" and config.start_us == START_US
        if made_up:
            champions = champions.newest()
        every_s = config.every_s if found.times == "pace" else None
        score_all(tasks(frame_ranges(store, str(config.folder), config.columns)), store, champions, jobs, scored)
        origin = {
            "folder": str(config.folder),
            "files": found.files,
            "times": found.times,
            "in_train": found.in_train,
            "notes": list(found.notes),
            "frame_s": config.frame_s,
            "every_s": every_s,
            "jobs": jobs,
        }
        return conclude(
            config.out,
            store,
            champions,
            observer,
            began_s=began_s,
            audio_s=audio_s,
            origin=origin,
            heeded=NOTHING if made_up else heeded,
        )


def conclude(
    out: Any,
    store: ScoreStore,
    champions: Champions,
    observer: ReplayObserver,
    *,
    began_s: float,
    audio_s: float,
    origin: Mapping[str, Any],
    heeded: Heeded = NOTHING,
) -> dict[str, Any]:
    """Apply the alert rule to what is stored, write the results, and return the summary.

    Args:
        out: Folder of the results.
        store: The scored frames.
        champions: The routes with their models.
        observer: Is told how it goes on.
        began_s: When the run began (``time.monotonic``).
        audio_s: Seconds of signal that it scored; what was scored before doesn't count.
        origin: What else the summary is to say.
        heeded: Windows and verdicts.
    """
    tally = ReplayTally(origin.get("every_s") or 0.0)
    with results(out) as files:
        for judged in judge(store, champions.router, heeded=heeded):
            files.add(judged)
            tally.add(judged)
            if tally.frames % 4096 == 0:
                observer.on_judged(tally.frames)
    write_dead_letters(out, store)
    seconds = time.monotonic() - began_s
    summary = {
        **tally.result(store),
        "seconds": round(seconds, 3),
        "scored_now_s": round(audio_s, 3),
        "realtime_factor": round(audio_s / seconds, 2) if audio_s else None,
        **origin,
        "out": str(out),
        "routes": described(champions),
        "whirr": __version__,
    }
    write_summary(out, summary)
    return summary
