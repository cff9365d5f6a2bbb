"""The stateless half in one call: what champions say of records, and beside it what challengers say in shadow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from schemas.dead_letter import DeadLetter
from schemas.frame import Frame, FrameRecord
from stream_app.pipeline.analyse import (
    Answers,
    Computed,
    Decoded,
    FeatureBatch,
    ShadowScore,
    answer,
    by_model,
    features_of,
    scored,
)
from stream_app.pipeline.router import RoutedModel, Router
from stream_app.pipeline.unfamiliar import unfamiliar


def compute(
    records: Sequence[FrameRecord], router: Router, without: Collection[str] = ()
) -> list[Computed | DeadLetter]:
    """Return one answer for each record, in order; what can't be used becomes a dead letter, never an exception.

    A challenger's score is part of its champion's answer, and never changes it, whatever the challenger does.

    Args:
        records: The frames.
        router: Routes and models.
        without: Digests of challengers that are not asked.
    """
    answers, prepared = answer(records, lambda frame: router.find(frame.machine_id, frame.recorded_us))
    if router.shadows:
        for index, shadow in _shadows(records, answers, prepared, without).items():
            found = answers[index]
            assert isinstance(found, Computed)
            answers[index] = replace(found, shadow=shadow)
    return [answers[index] for index in range(len(records))]


def _shadows(
    records: Sequence[FrameRecord], answers: Answers, prepared: Iterable[FeatureBatch], without: Collection[str]
) -> dict[int, ShadowScore]:
    """Return what challengers say of the frames that have an answer, by index.

    A challenger with the champion's features takes the same windows. Another one's are computed from the record.
    """
    sharing: dict[int, RoutedModel] = {}
    apart: dict[int, RoutedModel] = {}
    for index, one in answers.items():
        if isinstance(one, DeadLetter):
            continue
        shadow = one.routed.shadow
        if shadow is not None and shadow.model.digest not in without:
            same = shadow.model.metadata.features == one.routed.model.metadata.features
            (sharing if same else apart)[index] = shadow
    found: dict[int, ShadowScore] = {}
    features = [part for one in prepared for part in _shared(one, sharing)]
    features += _of_their_own(records, apart, found)
    for together in by_model(features):
        found |= _scores(together)
    return found


def _shared(batch: FeatureBatch, challengers: Mapping[int, RoutedModel]) -> Iterator[FeatureBatch]:
    """Yield the frames of a batch again for their challengers, by index, which take the same windows."""
    rows: dict[int, list[int]] = {}
    frames: dict[int, Decoded] = {}
    for row, one in enumerate(batch.frames):
        shadow = challengers.get(one.index)
        if shadow is None:
            continue
        strange = unfamiliar(shadow.model, one.frame, one.rate_hz, one.duration_s)
        if not set(strange) & set(shadow.route.refuse_unfamiliar):
            frames[row] = replace(one, routed=shadow, unfamiliar=strange)
            rows.setdefault(id(shadow.model), []).append(row)
    for own in rows.values():
        chosen = [frames[row] for row in own]
        if len(own) == len(batch.frames):  # as nearly always; then nothing is copied
            yield FeatureBatch(chosen, batch.windows, batch.statistics)
        else:
            yield FeatureBatch(chosen, batch.windows[own], batch.statistics[own])


def _of_their_own(
    records: Sequence[FrameRecord], challengers: Mapping[int, RoutedModel], found: dict[int, ShadowScore]
) -> list[FeatureBatch]:
    """Return features of records for challengers, by index, that take others than their champions."""
    by_route: dict[int, list[int]] = {}
    for index, shadow in challengers.items():
        by_route.setdefault(id(shadow), []).append(index)
    refused: Answers = {}
    features: list[FeatureBatch] = []
    for own in by_route.values():
        shadow = challengers[own[0]]
        features += features_of(((index, records[index]) for index in own), _always(shadow), refused)
    for index, letter in refused.items():
        # A frame that is none for the challenger says nothing of it.
        if isinstance(letter, DeadLetter) and letter.code == "processing_failed":
            found[index] = ShadowScore(None, failure=letter.detail)
    return features


def _always(shadow: RoutedModel) -> Callable[[Frame], RoutedModel]:
    return lambda _frame: shadow


def _scores(together: Sequence[FeatureBatch]) -> dict[int, ShadowScore]:
    """Score frames of one challenger together; should that fail, one by one."""
    try:
        return {index: ShadowScore(one.score, one.unfamiliar) for index, one in scored(together).items()}
    except Exception as error:  # of whatever kind, also a lack of memory: the champion's answer stands
        alone = [one for several in together for one in several.alone()]
        if len(alone) == 1:
            return {alone[0].frames[0].index: ShadowScore(None, failure=f"{type(error).__name__}: {error}"[:500])}
        return {index: shadow for one in alone for index, shadow in _scores([one]).items()}
