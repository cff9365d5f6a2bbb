"""The numbers that decide when a machine learns, and when what it learnt takes over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from whirr.settings import Settings

HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRule:
    """When a machine learns.

    Attributes:
        learn_h: A machine that is new, or was repaired, is heard for so long before it is first learnt.
        learn_frames: And at least so many frames of it.
        unstable_factor: So many times as long, where new states keep coming.
        growth: A baseline is learnt anew when it has become so many times as long.
        mature_h: From so long a baseline on it is mature, and the anchor of what comes later.
        retrain_h: A mature baseline is learnt anew so often.
        verdict_h: After a false alarm, so long is waited for others before it is learnt.
        margin_h: So near an incident nothing is learnt.
        shadow_h, shadow_frames: A challenger is heard in shadow for so long, and so many frames, before it is judged.
        shadow_most_h: One that has not passed by then is dropped.
        probation_h: A new champion is watched for so long, and the one before goes on in shadow.
        retry_h: A training that failed is tried again after so long.
        false_alarms_per_30_days: Promised, per machine.
        false_drifts_per_30_days: Likewise, of drifts.
        promote: Whether a challenger that passed takes over by itself, or waits for a person.
    """

    learn_h: float = 24.0
    learn_frames: int = 100
    unstable_factor: float = 3.0
    growth: float = 2.0
    mature_h: float = 168.0
    retrain_h: float = 336.0
    verdict_h: float = 1.0
    margin_h: float = 2.0
    shadow_h: float = 24.0
    shadow_frames: int = 40
    shadow_most_h: float = 120.0
    probation_h: float = 48.0
    retry_h: float = 6.0
    false_alarms_per_30_days: float = 1.0
    false_drifts_per_30_days: float = 1.0
    promote: bool = True

    @classmethod
    def of(cls, settings: Settings) -> LearningRule:
        """Return the rule that the settings name; what they don't name is as here."""
        return cls(
            learn_h=settings.learn_min_h,
            learn_frames=settings.learn_min_frames,
            mature_h=settings.learn_mature_h,
            retrain_h=settings.learn_every_h,
            shadow_h=settings.learn_shadow_h,
            shadow_most_h=5 * settings.learn_shadow_h,
            probation_h=2 * settings.learn_shadow_h,
            promote=settings.learn_promote,
        )

    @property
    def margin_us(self) -> int:
        """``margin_h`` in microseconds."""
        return round(self.margin_h * HOUR_US)
