"""Baselines: what is normal of each machine that a model was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from schemas.model_metadata import Baseline
from schemas.times import format_rfc3339
from trainer.recording_set import RecordingSet
from trainer.trimming import Stray


def baselines(found: RecordingSet, strays: Sequence[Stray], data_hash: str) -> dict[str, Baseline]:
    """Return each machine's baseline; those of recordings that don't tell their machine have none.

    Args:
        found: What was trained on.
        strays: Parts of it that were not learnt.
        data_hash: Of all of it.
    """
    made = {}
    unlearnt = {stray.name for stray in strays}
    for machine, own in found.by_machine.items():
        starts = [one.start for one in own if isinstance(one.start, int)]
        ends = [one.start + round(one.duration_s * 1e6) for one in own if isinstance(one.start, int)]
        known = len(starts) == len(own)
        odd = sum(one.name in unlearnt for one in own)
        made[machine] = Baseline(
            baseline_id=hashlib.sha256(f"{machine}\0{data_hash}".encode()).hexdigest()[:32],
            from_at=format_rfc3339(min(starts)) if known else None,
            until_at=format_rfc3339(max(ends)) if known else None,
            recordings=len(own),
            hours=sum(one.duration_s for one in own) / 3600,
            left_out={"unlike_neighbours": odd} if odd else {},
        )
    return made
