"""Reading features, live and in history.

    with FeatureClient() as features:
        pump = features.machine("pump-7")
        if pump is not None and pump.health.alert_state != "normal":
            print(pump.seen_at, pump.health.threshold_ratio, pump.audio.rms_mean)

Importing this module is cheap; making a client takes seconds, since it imports Feast.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from feature_repo.entity_keys import machine_ids
from feature_repo.fields import AUDIO_SERVICE, AUDIO_VIEW, ENTITY, HEALTH_VIEW, VIEWS
from feature_repo.store import history_folder, open_store
from whirr.settings import Settings, load_settings

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_AT_ONCE: Final = 500
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AudioFeatures:
    """Rolling means of a machine's 13 statistics, half-life 60 s; None for what is not stored.

    Attributes:
        rms_mean: Root mean square, full scale ±1.
        rms_std: Its standard deviation over time, likewise.
        zcr_mean: Share of neighbouring samples between which the signal changes its sign.
        spectral_centroid: Hz.
        spectral_bandwidth: Hz.
        spectral_rolloff: Hz, below which 85 % lie.
        spectral_contrast: dB.
        mfcc_0, mfcc_1, mfcc_2, mfcc_3, mfcc_4, mfcc_5: dB.
    """

    rms_mean: float | None
    rms_std: float | None
    zcr_mean: float | None
    spectral_centroid: float | None
    spectral_bandwidth: float | None
    spectral_rolloff: float | None
    spectral_contrast: float | None
    mfcc_0: float | None
    mfcc_1: float | None
    mfcc_2: float | None
    mfcc_3: float | None
    mfcc_4: float | None
    mfcc_5: float | None


@dataclass(frozen=True, slots=True)
class HealthFeatures:
    """How a machine does; None for what is not stored, as after a backfill without a model.

    Attributes:
        score_mean: Rolling mean of the scores, half-life 60 s.
        score_max: Rolling maximum of them, fading likewise.
        threshold_ratio: The mean over the alert threshold; above 1 is anomalous.
        frames_seen: Frames since the stream was first seen.
        gaps: Frames that gaps in the sensor's counter say were lost.
        alert_state: ``normal``, ``changed``, ``warning``, ``critical``, ``flat``, ``clipped``, ``idle`` or
            ``learning``.
        model_version: ``NAME/VERSION`` of the model that scored; ``NAME/none``: of the one that is waited for.
        learning_since: Since when the machine is learning, RFC 3339; empty while it is not.
    """

    score_mean: float | None
    score_max: float | None
    threshold_ratio: float | None
    frames_seen: int | None
    gaps: int | None
    alert_state: str | None
    model_version: str | None
    learning_since: str | None = None


@dataclass(frozen=True, slots=True)
class MachineFeatures:
    """What the online store knows of a machine.

    Attributes:
        machine_id: Which.
        audio_at: Recording time of the newest frame in ``audio``, UTC; None if there is none. SQLite keeps seconds.
        health_at: The same of ``health``.
        audio: Its statistics.
        health: How it does.
    """

    machine_id: str
    audio_at: datetime | None
    health_at: datetime | None
    audio: AudioFeatures
    health: HealthFeatures

    @property
    def seen_at(self) -> datetime:
        """Recording time of the newest frame that is known, UTC."""
        return max(at for at in (self.audio_at, self.health_at, _EPOCH) if at is not None)


class FeatureClient:
    """An open feature store, for reading; a context manager. Not for several threads at once.

    Args:
        settings: Which store; default: those in force.

    Attributes:
        shown: The store's kind and address.

    Raises:
        SettingsError: The store's YAML file can't be used.
        FeatureStoreError: Its definitions have not been applied.
        ServiceUnavailable: It can't be reached.
        MissingExtra: Feast is not installed.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or load_settings()
        self._store = open_store(self._settings)
        self.shown: str = self._store.shown
        self._references = self._known()

    def __enter__(self) -> FeatureClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _known(self) -> list[str]:
        """Return the features that were applied: another version's registry may lack some."""
        with self._store.errors():
            registered = {view.name: view for view in self._store.feast.list_feature_views(allow_cache=True)}
        applied = {name: {feature.name for feature in view.features} for name, view in registered.items()}
        # A view that isn't there is Feast's to tell.
        return [f"{v}:{f.name}" for v, known in VIEWS.items() for f in known if f.name in applied.get(v, {f.name})]

    def close(self) -> None:
        """Close the connections; the client can be used again."""
        online = self._store.feast._get_provider().online_store
        for name in ("_client", "_conn", "_conn_pool"):
            connection = getattr(online, name, None)
            if connection is not None:
                with contextlib.suppress(Exception):  # one that is broken needs no closing
                    connection.close()
                setattr(online, name, None)

    def machine(self, machine_id: str) -> MachineFeatures | None:
        """Return what is stored of a machine, or None if nothing is.

        Raises:
            ServiceUnavailable: The store can't be reached.
        """
        found = self.machines([machine_id])
        return found[0] if found else None

    def machines(self, wanted: Sequence[str] | None = None) -> list[MachineFeatures]:
        """Return what is stored of machines, in the order asked; those of which nothing is stored are left out.

        Args:
            wanted: Ids of machines; default: all that the store knows, sorted.

        Raises:
            ServiceUnavailable: The store can't be reached.
        """
        ids = self.machine_ids() if wanted is None else list(wanted)
        found: list[MachineFeatures] = []
        for begin in range(0, len(ids), _AT_ONCE):
            found += self._read(ids[begin : begin + _AT_ONCE])
        return found

    def machine_ids(self) -> list[str]:
        """Return the ids of all machines that the store knows, sorted.

        Raises:
            ServiceUnavailable: The store can't be reached.
        """
        return machine_ids(self._store)

    def history(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        machines: Sequence[str] | None = None,
        features: Sequence[str] | None = None,
    ) -> pa.Table:
        """Return the rows of the history between two times, sorted by machine and event time.

        Args:
            start: First event time, with a time zone; default: all.
            end: Last event time, with a time zone; default: all.
            machines: Ids of machines; default: all.
            features: Names; default: all. Machine, source and times always come with them.
        """
        from feature_repo.history import History

        history = History(history_folder(self._settings))
        return history.rows(start=start, end=end, machines=machines, columns=features)

    def training_set(self, asked: pd.DataFrame, service: str = AUDIO_SERVICE) -> pd.DataFrame:
        """Return a table with the features as they were known at each of its times, not later: Feast's historical join.

        Args:
            asked: Columns ``machine_id`` and ``event_timestamp`` (with a time zone; without one it is UTC), and any
                others, such as a label.
            service: A feature service of the repository.

        Returns:
            The same rows with the service's features; null where none was known, or none of the day before.

        Raises:
            FeatureStoreError: There is no such service.
        """
        with self._store.errors():
            chosen = self._store.feast.get_feature_service(service)
            return self._store.feast.get_historical_features(entity_df=asked, features=chosen).to_df()

    def _read(self, ids: list[str]) -> list[MachineFeatures]:
        with self._store.errors():
            answer = self._store.feast.get_online_features(features=self._references, entity_rows={ENTITY: ids}).proto
        vectors = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
        audio, health = ([vectors.get(field.name) for field in VIEWS[view]] for view in (AUDIO_VIEW, HEALTH_VIEW))
        found = []
        for number, machine_id in enumerate(ids):
            audio_at, health_at = _time(audio[0], number), _time(health[0], number)
            if audio_at is not None or health_at is not None:
                audio_values = AudioFeatures(*(_value(vector, number) for vector in audio))
                health_values = HealthFeatures(*(_value(vector, number) for vector in health))
                found.append(MachineFeatures(machine_id, audio_at, health_at, audio_values, health_values))
        return found


def _time(vector: Any, number: int) -> datetime | None:
    if vector is None:
        return None
    time_us = vector.event_timestamps[number].ToMicroseconds()
    return _EPOCH + timedelta(microseconds=time_us) if time_us > 0 else None


def _value(vector: Any, number: int) -> Any:
    if vector is None:
        return None
    value = vector.values[number]
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    plain = getattr(value, kind)
    return None if isinstance(plain, float) and math.isnan(plain) else plain
