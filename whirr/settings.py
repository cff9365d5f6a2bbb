"""Settings: the environment (``WHIRR_…``) over ``whirr.toml`` over the defaults here.

A route says which model scores which machines, and by which rule their alerts open and close. What a route leaves
out comes from the model's metadata (threshold) or from the defaults.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Set
from datetime import datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from ipaddress import IPv6Address, ip_address
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.errors import SettingsError
from schemas.model_uri import ModelTemplate, ModelUri
from schemas.score import Unfamiliar
from whirr.machine_patterns import check_pattern, covers
from whirr.maintenance import MaintenanceWindow
from whirr.options import declared, expectation
from whirr.utf8 import EXPECTED, is_utf8

DEFAULT_FILE = "whirr.toml"
LONGEST_BATCH_S = 15.0  # unless the settings say otherwise
EMBEDDED_BOOTSTRAP = "127.0.0.1:9092"
DEFAULT_MODEL_MB: Final = 2048
DEFAULT_FORGET_AFTER_H = 2160.0  # 90 days: longer than from one monthly inspection to the next
_OF_SASL = ("kafka_sasl_username", "kafka_sasl_password")
_OF_TLS = ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile")

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
MAX_TOPIC_CHARS = 249  # Kafka's own rule, as are the characters
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\.?")
_OF_NUMBERS = re.compile(r"[0-9.]+")


def _addresses(text: str) -> str:
    for address in text.split(","):
        if not _is_address(address.strip()):
            raise ValueError(f"address is {address.strip()!r}; expected host:port, with commas between several")
    return text


def _is_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        return False
    try:
        return match["ipv6"] is None or bool(IPv6Address(match["ipv6"]))
    except ValueError:
        return False


def _topic(text: str) -> str:
    if not _TOPIC.fullmatch(text) or text in (".", ".."):
        raise ValueError(f"topic is {text!r}; expected 1 to 249 of A-Z a-z 0-9 . _ -")
    return text


def _host(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        # What looks like an address is one, or none at all: 300.1.1.1 is nobody's name.
        if not _HOST.fullmatch(text) or _OF_NUMBERS.fullmatch(text):
            raise ValueError(
                f"host is {text!r}; expected an address or a host's name, such as 0.0.0.0, ::1 or localhost"
            ) from None
    return text


def _utf8(value: Any) -> Any:
    if not is_utf8(value):
        raise ValueError(EXPECTED)  # without the value: it may be a password
    return value


def _file_name(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError(f"path is {str(path)!r}; no path can hold the character 0")
    return path


# Infinities and NaN pass comparisons that look safe, and end in an overflow hours later: every number is bounded.
Number = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[Number, Field(gt=0, le=1e9)]
Hours = Annotated[Number, Field(ge=1 / 60, le=1e6)]
FileName = Annotated[Path, AfterValidator(_file_name)]
Addresses = Annotated[str, AfterValidator(_addresses)]
Topic = Annotated[str, AfterValidator(_topic)]
Host = Annotated[str, AfterValidator(_host)]


SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]


class Route(BaseModel):
    """Which model scores the machines whose id matches, and when their alerts open and close."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field("*", description="pattern of machine ids: * ? [abc]")
    model: str = Field(
        description="path of a model file, models:/NAME@champion or models:/NAME/VERSION; with "
        "models:/NAME.{machine}@champion each machine has its own, and is learning until there is one"
    )
    mode: Literal["state", "every"] = Field("state", description="alert on transitions, or on every anomalous frame")
    k: int = Field(3, ge=1, le=64, description="anomalous frames among the last n that open an incident")
    n: int = Field(5, ge=1, le=64, description="frames that k is counted among")
    m: int = Field(5, ge=1, le=1000, description="frames in a row below the closing threshold that close it")
    hysteresis: Number = Field(0.9, gt=0, le=1, description="closing threshold as a share of the alert threshold")
    threshold: Number | None = Field(None, gt=0, description="alert threshold, in place of the model's")
    early: bool = Field(True, description="report a lasting shift of the score early, before it is an alarm")
    early_settle_s: Number = Field(
        600.0, gt=0, le=1e9, description="seconds of weak evidence after which an early finding has settled"
    )
    remind_after_h: Number = Field(
        24.0,
        ge=0,
        le=1e6,
        description="hours after which an open incident is told again while nobody has said anything of it; 0: never",
    )
    learning_h: Number = Field(
        24.0,
        ge=0,
        le=1e6,
        description="most hours for which a machine is learnt anew after repaired or new_normal; then its old model "
        "judges again",
    )
    critical_ratio: Number = Field(2.0, gt=1, description="score / threshold from which an alert is critical")
    running_dbfs: Number | None = Field(None, ge=-400, le=0, description="quieter frames (dBFS) are idle")
    start_up_s: Number = Field(
        0.0, ge=0, le=1e9, description="seconds after the running level is reached that are idle"
    )
    shadow: bool = Field(True, description="let the registered model's challenger score the same frames in shadow")
    muted_until: datetime | None = Field(None, description="frames recorded before are idle (RFC 3339)")
    silent_after_s: Seconds | None = Field(600.0, description="no frame for so long raises a sensor alert")
    refuse_unfamiliar: tuple[Unfamiliar, ...] = Field(
        (), description="frames that the model was not trained for and that become dead letters: machine, rate, length"
    )
    forget_after_h: Number | None = Field(
        DEFAULT_FORGET_AFTER_H,
        gt=0,
        le=1e6,
        description="hours between the recording times of two frames after which a stream begins anew; the worker "
        "forgets one that it has not heard for twice as long",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return _utf8(value)

    @field_validator("match")
    @classmethod
    def _matchable(cls, match: str) -> str:
        check_pattern(match)
        return match

    @field_validator("model")
    @classmethod
    def _locatable(cls, model: str) -> str:
        if not model.strip() or "\0" in model:
            raise ValueError(f"model is {model!r}; expected the path of a file, or a model in the registry")
        if ModelTemplate.parse(model) is None:
            ModelUri.parse(model)
        return model

    @model_validator(mode="after")
    def _consistent(self) -> Route:
        if self.k > self.n:
            raise ValueError(f"k is {self.k}, n is {self.n}; expected k of n with k at most n")
        if self.muted_until is not None and self.muted_until.tzinfo is None:
            raise ValueError(f"muted_until is {self.muted_until}; expected a time with an offset, such as …Z")
        silent, forget = self.silent_after_s, self.forget_after_h
        stated = {"silent_after_s", "forget_after_h"} <= self.model_fields_set
        if stated and silent is not None and forget is not None and silent > forget * 3600:
            raise ValueError(
                f"silent_after_s is {silent:g}, forget_after_h {forget:g} ({forget * 3600:g} s); expected silence to "
                "be told before a stream is forgotten"
            )
        return self

    def matches(self, machine_id: str) -> bool:
        """Whether this route is the machine's, unless an earlier one matches."""
        return fnmatchcase(machine_id, self.match)


class Settings(BaseSettings):
    """All settings. Each can be given as ``WHIRR_<NAME>`` or as ``name`` in whirr.toml."""

    model_config = SettingsConfigDict(env_prefix="WHIRR_", env_ignore_empty=True, extra="forbid", frozen=True)

    kafka_bootstrap_servers: Addresses | None = Field(
        None, description=f"Kafka's addresses; without, the embedded broker at {EMBEDDED_BOOTSTRAP}"
    )
    kafka_embedded: bool | None = Field(
        None, description="of 0.1, no longer needed: the embedded broker is talked to as any other"
    )
    kafka_security_protocol: SecurityProtocol = Field(
        "PLAINTEXT", description="how to talk to Kafka: SSL is TLS, SASL_SSL is TLS and a password"
    )
    kafka_sasl_mechanism: SaslMechanism = Field("SCRAM-SHA-512", description="how the password is shown to Kafka")
    kafka_sasl_username: str | None = Field(None, description="who this is to Kafka")
    kafka_sasl_password: SecretStr | None = Field(None, description="password of that user")
    kafka_ssl_cafile: FileName | None = Field(
        None, description="certificates (PEM) that Kafka's is checked by; default: those that the system trusts"
    )
    kafka_ssl_certfile: FileName | None = Field(
        None, description="this client's certificate (PEM), if Kafka asks for one"
    )
    kafka_ssl_keyfile: FileName | None = Field(
        None, description="its key (PEM, no passphrase); default: in the same file"
    )
    kafka_ssl_check_hostname: bool = Field(True, description="whether Kafka's certificate must name its address")
    frames_topic: Topic = Field("vibration-frames", description="topic that gateways publish to")
    alerts_topic: Topic = Field("anomalies", description="topic that alerts go to")
    scores_topic: Topic = Field("vibration-scores", description="topic that scores go to")
    dead_letter_topic: Topic = Field("vibration-frames.dlq", description="topic of frames that could not be used")
    verdicts_topic: Topic = Field(
        "verdicts", description="topic of people's verdicts on incidents; its audit log is this name and .log"
    )
    publish_scores: bool = Field(True, description="send every frame's score")
    topic_partitions: int = Field(8, ge=1, le=100_000, description="partitions of topics that Whirr creates")
    topic_replication: int = Field(1, ge=1, le=1000, description="replicas of topics that Whirr creates")
    topic_min_insync: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="replicas that must have a record before it counts; default: one less, at least 1",
    )
    frames_retention_h: Hours = Field(72.0, description="hours that frames are kept: more than the longest outage")
    scores_retention_h: Hours = Field(168.0, description="hours that scores are kept")
    alerts_retention_h: Hours = Field(720.0, description="hours that alerts and dead letters are kept")

    route: tuple[Route, ...] = Field((), description="[[route]] tables; the first that matches a machine counts")

    maintenance: tuple[MaintenanceWindow, ...] = Field(
        (), description="[[maintenance]] tables: when machines are worked on, so that their frames are idle"
    )

    worker_id: Topic = Field("whirr-worker", description="consumer group and prefix of the changelog topics")
    worker_dir: FileName = Field(Path(".whirr/worker"), description="where the worker keeps its files")
    batch_frames: int = Field(64, ge=1, le=1024, description="most frames scored at once")
    machine_samples_per_s: Number = Field(
        2_000_000.0,
        gt=0,
        le=1e12,
        description="samples a second, at the model's rate over all channels, that one machine may have computed",
    )
    batch_linger_s: Seconds = Field(
        0.005, le=10, description="longest wait for others while frames come one right after the other"
    )
    # Kafka's group.min.session.timeout.ms is 6 s, and Faust's clients give up a request after 90 s.
    session_timeout_s: Number = Field(
        10.0, ge=6, le=90, description="a worker not heard of for so long loses its partitions"
    )
    commit_interval_s: Seconds = Field(1.0, description="how often the worker commits what it has acknowledged")
    max_streams: int = Field(
        300_000, ge=1, description="most streams (machine and sensor) of a worker; frames of more are dead letters"
    )
    max_new_streams_per_min: int = Field(
        60_000, ge=1, description="most new streams a minute of a worker; frames of more are dead letters"
    )
    silence_summary_from: int = Field(
        100, ge=2, description="so many streams that fall silent within a minute are reported by one alert"
    )
    commit_stall_s: Seconds = Field(60.0, description="the worker exits when its commits stop moving for so long")
    compute_timeout_s: Seconds | None = Field(
        None,
        description="a batch that takes longer is stopped, and computed again frame by frame; default: 15, and at most "
        "a third of commit_stall_s",
    )
    model_timeout_s: Seconds = Field(60.0, description="a model that takes longer to be loaded and tried is refused")
    model_poll_s: Seconds = Field(
        5.0, ge=0.01, description="how often model files and the registry are looked at for a change"
    )
    max_model_mb: int = Field(
        DEFAULT_MODEL_MB,
        ge=1,
        description="most memory, in MiB, that models of single machines take in a worker; those unused for longest go",
    )
    max_shadow_models: int = Field(32, ge=0, description="most challengers that a worker scores in shadow")
    web_host: Host = Field("127.0.0.1", description="address that /metrics and /ready are served on")
    web_port: int = Field(
        6066, ge=0, le=65535, description="port that /metrics and /ready are served on; 0 takes a free one"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="how the worker logs: text, json, or auto for text on a terminal and else json"
    )

    edge_compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="how an edge agent packs records for the link; FLAC, its default, is packed already"
    )
    edge_spool_dir: FileName = Field(
        Path(".whirr/spool"), description="where an edge agent's frames wait for the broker"
    )
    edge_spool_mb: Number = Field(1000.0, ge=1, le=1e9, description="most megabytes that wait there, of each source")
    edge_backlog_kb_s: Number = Field(
        500.0,
        gt=0,
        le=1e9,
        description="most kilobytes a second with which an edge agent sends what waited; never below twice live",
    )
    feature_push: bool | None = Field(
        None, description="write features to Feast; default: when a store was chosen, or the default one was applied"
    )
    feature_push_interval_s: Seconds = Field(1.0, description="how often the worker writes features")
    feature_repo: FileName | None = Field(None, description="Feast repository; default: the one that Whirr came with")
    feature_keep_history: bool = Field(True, description="keep every row that is written as history (Parquet files)")
    feature_history_days: int = Field(30, ge=0, le=36_500, description="days of history that are kept; 0 keeps all")
    feature_history_every_s: Number = Field(
        0.0, ge=0, le=1e9, description="least time between two rows of a stream; 0 keeps all"
    )
    feature_store_yaml: FileName | None = Field(
        None, description="which feature store; default: FEAST_FS_YAML_FILE_PATH, else the repository's SQLite"
    )

    recordings_url: str | None = Field(
        None, description="where `whirr record --follow` keeps what is heard: a folder, or a URL such as s3://bucket/x"
    )
    recordings_group: Topic = Field("whirr-recorder", description="consumer group of `whirr record --follow`")
    recordings_form: Literal["flac", "as_sent"] = Field(
        "flac", description="keep a WAV as FLAC, where that is exact and smaller, or every frame as it was sent"
    )
    recordings_keep_all_h: Number = Field(
        6.0, ge=0, le=1e6, description="hours in which every recording stays; after that a day is thinned"
    )
    recordings_keep_a_day: int = Field(
        200, ge=1, le=1_000_000, description="recordings of a stream and day that stay when it is thinned"
    )
    recordings_keep_days: Number = Field(
        365.0, ge=0, le=36_500, description="days that recordings are kept; 0 keeps them whatever their age"
    )
    recordings_keep_gb: Number = Field(
        100.0, ge=0, le=1e9, description="most gigabytes of recordings in all; 0: no such quota"
    )
    recordings_keep_machine_gb: Number = Field(
        10.0, ge=0, le=1e9, description="most gigabytes of recordings of one machine; 0: no such quota"
    )
    recordings_keep_machine_frames: int = Field(0, ge=0, description="most recordings of one machine; 0: no such quota")

    learn_min_h: Hours = Field(
        24.0, description="hours that a new machine, or one that was repaired, is heard before it is first learnt"
    )
    learn_min_frames: int = Field(100, ge=20, description="and at least so many frames of it")
    learn_mature_h: Hours = Field(
        168.0, description="hours from which a baseline is mature, and the anchor that later ones are held against"
    )
    learn_every_h: Hours = Field(336.0, description="hours after which a mature baseline is learnt anew")
    learn_shadow_h: Hours = Field(24.0, description="hours that a challenger is heard in shadow before it is judged")
    learn_promote: bool = Field(
        True, description="let a challenger that passed take over; false: only `whirr models promote` does"
    )
    learn_detector: str = Field("auto", description="what is trained, as `whirr train --detector` takes it")
    learn_frames: int = Field(400, ge=50, le=1_000_000, description="most recordings that one training takes")
    learn_jobs: int = Field(1, ge=1, le=1000, description="trainings at once")
    learn_engine: str = Field(
        "local", description="where trainings run: local processes, or the address of a Dask scheduler, tcp://host:8786"
    )

    mlflow_tracking_uri: str = Field(
        "sqlite:///mlflow.db", description="where training runs and registered models are: a server or a database"
    )
    mlflow_password: SecretStr | None = Field(None, description="password for the tracking server or its database")
    mlflow_artifact_location: str | None = Field(
        None, description="where a new experiment keeps its files; default: beside the SQLite file, or as MLflow says"
    )
    mlflow_experiment: str = Field("whirr", description="experiment that training runs are logged under")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments, then the environment, then the file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, read_settings_file())

    @field_validator("*", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return _utf8(value)

    @model_validator(mode="after")
    def _routes_reached(self) -> Settings:
        """Refuse a route that no machine ever has: whoever wrote it counts on its model or its rule."""
        for (first, earlier), (second, later) in combinations(enumerate(self.route), 2):
            if covers(earlier.match, later.match):
                raise ValueError(
                    f"route.{second}: match is {later.match!r}, and route.{first} before it, with match "
                    f"{earlier.match!r}, takes all its machines: the first that matches counts; put the narrower one "
                    "first, or remove one"
                )
        return self

    @model_validator(mode="after")
    def _secure_as_meant(self) -> Settings:
        """Refuse what would be ignored: whoever sets a password or a certificate counts on it."""
        protocol = self.kafka_security_protocol
        shown = f"kafka_security_protocol is {protocol}"
        named = {name: getattr(self, name) is not None for name in (*_OF_SASL, *_OF_TLS)}
        with_sasl, with_tls = protocol.startswith("SASL"), protocol.endswith("SSL")
        if with_sasl and (missing := [name for name in _OF_SASL if not named[name]]):
            raise ValueError(f"{shown}; expected {' and '.join(missing)} with it")
        if not with_sasl and (unused := [name for name in _OF_SASL if named[name]]):
            raise ValueError(f"{shown}, but {unused[0]} is set; expected SASL_SSL")
        if not with_tls and (unused := [name for name in _OF_TLS if named[name]]):
            raise ValueError(f"{shown}, but {unused[0]} is set; expected SASL_SSL or SSL")
        if protocol == "SASL_PLAINTEXT" and self.kafka_sasl_mechanism == "PLAIN":
            raise ValueError(f"{shown} and kafka_sasl_mechanism PLAIN would send the password in clear; use SASL_SSL")
        if self.kafka_ssl_keyfile is not None and self.kafka_ssl_certfile is None:
            raise ValueError("kafka_ssl_keyfile is set without kafka_ssl_certfile; expected both")
        if protocol != "PLAINTEXT" and self.embedded:
            raise ValueError(f"{shown}; the embedded broker takes PLAINTEXT only")
        return self

    @model_validator(mode="after")
    def _replicas_enough(self) -> Settings:
        if self.min_insync_replicas > self.topic_replication:
            raise ValueError(
                f"topic_min_insync is {self.topic_min_insync}, topic_replication {self.topic_replication}; "
                "expected at most as many, or nothing could be written"
            )
        return self

    @model_validator(mode="after")
    def _topics_apart(self) -> Settings:
        """Refuse one topic for two purposes: a worker that reads what it writes never ends."""
        named = {
            "frames_topic": self.frames_topic,
            "alerts_topic": self.alerts_topic,
            "scores_topic": self.scores_topic,
            "dead_letter_topic": self.dead_letter_topic,
            "the topic of notes that dead_letter_topic makes": notes_topic(self.dead_letter_topic),
            "verdicts_topic": self.verdicts_topic,
            "the audit log that verdicts_topic makes": verdict_log_topic(self.verdicts_topic),
            "the changelog that worker_id makes": changelog_topic(self.worker_id),
        }
        for purpose, name in named.items():
            if len(name) > MAX_TOPIC_CHARS:
                raise ValueError(f"{purpose} is {name!r}; expected at most {MAX_TOPIC_CHARS} characters")
        for (one, first), (other, second) in combinations(named.items(), 2):
            # Kafka takes a.b and a_b for the same in the names of its metrics, and makes only one of them.
            if first.replace(".", "_") == second.replace(".", "_"):
                raise ValueError(f"{one} is {first!r} and {other} is {second!r}; expected a topic for each")
        return self

    @model_validator(mode="after")
    def _groups_apart(self) -> Settings:
        """Refuse one group for the worker and the recorder: each would get half of the frames."""
        if self.recordings_group == self.worker_id:
            raise ValueError(
                f"recordings_group and worker_id are both {self.worker_id!r}; expected a consumer group for each"
            )
        return self

    @model_validator(mode="after")
    def _commits_before_stalled(self) -> Settings:
        if self.commit_interval_s > self.commit_stall_s / 2:
            raise ValueError(
                f"commit_interval_s is {self.commit_interval_s:g}, commit_stall_s {self.commit_stall_s:g}; expected at "
                "most half of it, or a worker that is well would be taken for stalled"
            )
        # A batch that hangs takes it three times before anything is answered: all at once, its first frame alone, and
        # a healthy frame.
        if self.compute_timeout_s is not None and self.compute_timeout_s > self.commit_stall_s / 3:
            raise ValueError(
                f"compute_timeout_s is {self.compute_timeout_s:g}, commit_stall_s {self.commit_stall_s:g}; expected at "
                "most a third of it, or the worker would exit while a long batch is computed"
            )
        return self

    @property
    def longest_batch_s(self) -> float:
        """Seconds that a batch may be computed."""
        return (
            min(LONGEST_BATCH_S, self.commit_stall_s / 3) if self.compute_timeout_s is None else self.compute_timeout_s
        )

    @property
    def min_insync_replicas(self) -> int:
        """Replicas that must have a record before it is acknowledged."""
        return self.topic_min_insync or max(1, self.topic_replication - 1)

    @property
    def bootstrap(self) -> str:
        """Kafka's addresses, or the embedded broker's default one."""
        return self.kafka_bootstrap_servers or EMBEDDED_BOOTSTRAP

    @property
    def embedded(self) -> bool:
        """Whether the settings say that the broker is the embedded one, which knows no TLS and no users."""
        if self.kafka_embedded is not None:
            return self.kafka_embedded
        return self.kafka_bootstrap_servers is None

    def route_for(self, machine_id: str) -> Route | None:
        """Return the first route that matches, or None."""
        return next((route for route in self.route if route.matches(machine_id)), None)


def changelog_topic(worker_id: str) -> str:
    """Return the name of the topic that keeps the stream states; Faust makes it of the app's and the table's name."""
    return f"{worker_id}-stream-states-changelog"


def notes_topic(dead_letter_topic: str) -> str:
    """Return the name of the topic that says which dead letters were replayed."""
    return f"{dead_letter_topic}.replayed"


def verdict_log_topic(verdicts_topic: str) -> str:
    """Return the name of the topic that keeps every verdict that was ever given."""
    return f"{verdicts_topic}.log"


def settings_file() -> Path:
    """Return the path of the settings file: ``WHIRR_SETTINGS_FILE``, else ``whirr.toml`` here."""
    return Path(os.environ.get(_FILE_VARIABLE) or DEFAULT_FILE)


def read_settings_file() -> dict[str, Any]:
    """Return what the settings file says, by key; nothing where there is no file.

    Raises:
        SettingsError: It can't be read, or is no TOML; the message names the line.
    """
    path = settings_file()
    if not path.exists() and not os.environ.get(_FILE_VARIABLE):
        return {}
    try:
        if not path.is_file():
            raise SettingsError(f"settings file {str(path)!r} is no file")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors begin a file with a mark
    except OSError as error:
        raise SettingsError(f"settings file {str(path)!r} can't be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: is no UTF-8 text; expected a TOML file") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        where = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        said = f", line {where[1]}: {str(error)[: where.start()]}" if where else f": {error}"
        raise SettingsError(f'{path}{said}; expected TOML, such as name = "value"') from None


def load_settings(**overrides: Any) -> Settings:
    """Return the settings in force; ``overrides`` (by field name; None is ignored) come before everything else.

    Raises:
        SettingsError: A setting is unknown, malformed or contradicts another; the message names each, where it stands,
            and for an unknown one the nearest that there is.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    if odd := [name for name in _PATHS_ELSEWHERE if not is_utf8(os.environ.get(name))]:
        raise SettingsError(f"{odd[0]} {EXPECTED}")
    in_file = {name.lower() for name in read_settings_file()}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = list(dict.fromkeys(_line(one, given, in_file) for one in error.errors(include_url=False)))
        head = "settings: " if len(lines) == 1 else f"{len(lines)} settings can't be used:\n"
        raise SettingsError(head + "\n".join(lines)) from None
    except ValueError as error:  # an environment value that should be JSON
        raise SettingsError(f"settings: {_environment_error(error)}") from None


# How a wrong setting is told


_PREFIX: Final = "WHIRR_"
_FILE_VARIABLE: Final = "WHIRR_SETTINGS_FILE"
# No settings: where settings, downloads and the features' history are, and what the Compose file takes.
_OTHERS: Final = frozenset(
    {
        _FILE_VARIABLE,
        "WHIRR_CACHE_DIR",
        "WHIRR_FEATURE_HISTORY",
        "WHIRR_KAFKA_HOST",
        "WHIRR_KAFKA_PORT",
        "WHIRR_MODEL",
        "WHIRR_WORKERS",
    }
)
_PATHS_ELSEWHERE: Final = ("WHIRR_FEATURE_HISTORY", "FEAST_FS_YAML_FILE_PATH")  # which no setting holds
_OWN: Final = ("WHIRR_TEST_", "WHIRR_BENCH_")  # what tests and benchmarks are told
_SHOWN_CHARS: Final = 60
_TABLES: Final[Mapping[str, type[BaseModel]]] = {"route": Route, "maintenance": MaintenanceWindow}


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each ``WHIRR_…`` variable that is no setting, with the one it may have been meant for."""
    known = {_PREFIX + name.upper() for name in Settings.model_fields} | _OTHERS
    return [
        f"{name} is no setting{_instead(name.upper(), known, len(_PREFIX))}"
        for name in sorted(environment)
        if name.upper().startswith(_PREFIX) and not name.startswith(_OWN) and name.upper() not in known
    ]


def _instead(name: str, known: Iterable[str], after: int = 0) -> str:
    """Return the question for the nearest known name, compared ``after`` so many characters; empty if none is near."""
    endings = {one[after:].lower(): one for one in known}
    near = get_close_matches(name[after:].lower(), endings, n=1)
    return f"; did you mean {endings[near[0]]}?" if near else ""


def _line(error: ErrorDetails, given: Mapping[str, Any], in_file: Set[str]) -> str:
    """Return what is wrong with one setting, and where it stands."""
    loc = error["loc"]
    if not loc:
        return expectation(error)
    name, key = str(loc[0]), ".".join(map(str, loc))
    variable = None if name in given else _variable(name)
    where = f"{_place(loc)}: {key}" if variable is None and name not in given and name.lower() in in_file else key
    if error["type"] == "extra_forbidden":
        return f"{where} is no setting{_meant(loc, error['input'])}"
    if len(loc) == 1 and name in _TABLES and not isinstance(error["input"], list):
        return f"{where}: expected [[{name}]], with two brackets on each side"
    declaration, own = (Settings, name) if len(loc) == 1 else (_TABLES.get(name, Settings), loc[-1])
    limits = next((option.range for option in declared(declaration) if option.name == own), "")
    return f"{where}: {expectation(error, limits)}{_value(loc, error, variable)}"


def _variable(name: str) -> str | None:
    """Return the variable that gives a setting, as it is spelt."""
    spelt = (one for one, value in os.environ.items() if value and one.upper() == _PREFIX + name.upper())
    return next(spelt, None)


def _place(loc: tuple[int | str, ...]) -> str:
    """Return the file, and the line of a key where it stands as people write it."""
    path = settings_file()
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    first = 0
    if loc[0] in _TABLES and len(loc) > 1:
        headers = [at for at, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{loc[0]}\s*\]\]", line)]
        if int(loc[1]) >= len(headers):
            return str(path)
        first = headers[int(loc[1])]
    wanted = rf"\s*\[*\s*[\"']?{re.escape(str(loc[-1]))}[\"']?\s*[=.\]]"
    found = (at for at in range(first, len(lines)) if re.match(wanted, lines[at], re.IGNORECASE))
    at = next(found, first if loc[0] in _TABLES else None)
    return str(path) if at is None else f"{path}, line {at + 1}"


def _meant(loc: tuple[int | str, ...], value: Any) -> str:
    """Return what an unknown key may have been meant for."""
    key = str(loc[-1])
    if len(loc) == 1:
        if table := next((table for table, model in _TABLES.items() if key in model.model_fields), None):
            return f" of the whole file; {key} belongs below a [[{table}]]"
        parts = [f"{key}_{part}" for part in value] if isinstance(value, dict) else []
        nested = next((part for part in parts if part in Settings.model_fields), None)
        return f"; did you mean {nested}, without a table?" if nested else _instead(key, Settings.model_fields)
    table = str(loc[0])
    whose = " of a route" if table == "route" else " of a maintenance window"
    if key in Settings.model_fields:
        return f"{whose}; {key} belongs above the first [[{table}]]"
    return f"{whose}{_instead(key, _TABLES[table].model_fields)}"


def _value(loc: tuple[int | str, ...], error: ErrorDetails, variable: str | None) -> str:
    """Return the value that is wrong, unless the message has it, it is a secret, or too long to help."""
    value, field = error["input"], Settings.model_fields.get(str(loc[0]))
    secret = field is not None and "SecretStr" in str(field.annotation)
    if secret or error["type"] == "value_error" or not isinstance(value, str | int | float):
        return f"; it stands in {variable}" if variable else ""
    shown = repr(value)
    return f"; {variable or 'it'} is {shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + '…'}"


def _environment_error(error: ValueError) -> str:
    named = re.search(r'field "(\w+)"', str(error))
    if named is None:
        return str(error)
    variable = _PREFIX + named[1].upper()
    return f"{variable} is {os.environ.get(variable, '')[:_SHOWN_CHARS]!r}; expected JSON"
