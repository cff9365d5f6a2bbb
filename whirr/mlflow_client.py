"""MLflow, for all that read it or write to it: reached at once or not at all, with one clear error.

It is a server, or a database in its place; the registry in it says which version of a model a name means now.
"""

from __future__ import annotations

import logging
import os
import shlex
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from schemas.champion_tags import terms
from schemas.errors import MissingExtra, ModelError, ServiceUnavailable, SettingsError, WhirrError
from schemas.model_uri import CHALLENGER, CHAMPION, DIGEST_TAG, MODEL_FILE, ModelTemplate, ModelUri
from whirr.outputs import check_folder
from whirr.settings import Settings

CONNECT_S = 5.0
_A_PAGE = 1_000  # of registered models: MLflow gives no more at once
_PORTS = {"http": 80, "https": 443, "postgresql": 5432}
_SQLITE = "sqlite:///"
_EXTRA_OF_DRIVER = {"alembic": "train", "sqlalchemy": "train", "psycopg": "stream"}


class TrackingServer:
    """Where runs and models are kept.

    Attributes:
        shown: Its address without user and password.
    """

    def __init__(self, settings: Settings) -> None:
        given = settings.mlflow_tracking_uri
        password = settings.mlflow_password.get_secret_value() if settings.mlflow_password is not None else None
        self.shown = _shown(given)
        self.uri = _with_driver(given, password)
        if password is not None and given.startswith("http"):
            os.environ["MLFLOW_TRACKING_PASSWORD"] = password
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own default waits for minutes
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for one line of JSON
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what a plant does is nobody else's business

    @contextmanager
    def client(self, must_exist: bool = False) -> Iterator[Any]:
        """Yield an MLflow client; whatever it raises within becomes one error with one line.

        Args:
            must_exist: Don't make a database file where there is none.

        Raises:
            ServiceUnavailable: The server can't be reached or refuses.
            MissingExtra: It is a database, and what talks to one is not installed.
        """
        try:
            self._probe(must_exist)
            from mlflow.tracking import MlflowClient  # takes seconds

            yield MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        except WhirrError:
            raise
        except ModuleNotFoundError as error:
            extra = _EXTRA_OF_DRIVER.get((error.name or "").partition(".")[0])
            if extra is None:
                raise
            raise MissingExtra(f"MLflow in a database ({self.shown})", extra) from None
        except Exception as error:  # MLflow, SQLAlchemy, requests and boto have no common ancestor
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ServiceUnavailable(f"MLflow at {self.shown} can't be used: {first[:300]}") from error

    def beside(self) -> str | None:
        """Return where an SQLite file's new experiments keep artifacts: beside the file, not where we stand."""
        database = _sqlite_file(self.uri)
        if database is None:
            return None
        database.parent.mkdir(parents=True, exist_ok=True)
        return (database.parent / "mlruns").as_uri()

    def check_place(self, location: str) -> None:
        """Look whether the folder that MLflow names for an experiment's or a run's files is where it says.

        Args:
            location: As MLflow has it; another machine's, such as a bucket, is not looked at.

        Raises:
            ServiceUnavailable: It is a folder beside a database that has been moved, or no file can be written there.
        """
        folder = _local(location)
        if folder is None:
            return
        if not folder.exists():
            moved = self._moved(folder)
            if moved is not None:
                raise ServiceUnavailable(moved)
        try:
            check_folder(folder, "MLflow's folder for files")
        except SettingsError as error:
            raise ServiceUnavailable(f"MLflow at {self.shown}: {error}") from None

    def download(self, client: Any, name: str, version: str, file: str, folder: Path) -> Path:
        """Fetch a file of a registered version into a folder, and return where it is.

        Args:
            client: As :meth:`client` gave it.
            name: Of the registered model.
            version: Its number.
            file: Its name among the version's files.
            folder: To write to.

        Raises:
            ServiceUnavailable: It is not where MLflow says, as after its folder was moved.
        """
        from mlflow.artifacts import download_artifacts

        source = client.get_model_version_download_uri(name, version).rstrip("/")
        kept = _local(source)
        if kept is not None and not (kept / file).exists():
            gone = (
                f"MLflow at {self.shown}: version {version} of {name!r} is not where it was kept, {str(kept / file)!r}"
            )
            raise ServiceUnavailable(self._moved(kept / file) or f"{gone}; was it deleted?")
        return Path(download_artifacts(artifact_uri=f"{source}/{file}", dst_path=str(folder), tracking_uri=self.uri))

    def model(self, client: Any, name: str) -> Any:
        """Return a registered model, as MLflow describes it.

        Raises:
            ModelError: There is none of that name.
        """
        return self._registered(lambda: client.get_registered_model(name), f"model {name!r}")

    def version(self, client: Any, name: str, which: str) -> tuple[Any, dict[str, str]]:
        """Return a version of a registered model, as MLflow describes it, and the numbers of the model's aliases.

        Args:
            client: As :meth:`client` gave it.
            name: Of the registered model.
            which: Alias or number of the version.

        Raises:
            ModelError: There is no such model, alias or version.
        """
        aliases = dict(self.model(client, name).aliases)
        number = which if which.isdecimal() else aliases.get(which)
        if number is None:
            known = ", ".join(sorted(aliases)) or "none"
            raise ModelError(
                f"{name!r} in MLflow at {self.shown} has no version {which!r}; expected a number or an alias, of which "
                f"it has {known}"
            )
        what = f"model {name!r} version {number}"
        return self._registered(lambda: client.get_model_version(name, str(number)), what), aliases

    def _registered(self, question: Callable[[], Any], what: str) -> Any:
        try:
            return question()
        except Exception as error:
            if not is_missing(error):
                raise
            raise ModelError(
                f"{what} is not registered in MLflow at {self.shown}; `whirr train --register` does that"
            ) from None

    def _moved(self, old: Path) -> str | None:
        """Return what to say of a path that is gone, where the same lies beside the database, or would; else None."""
        database = _sqlite_file(self.uri)
        if database is None:
            return None
        for depth in range(1, len(old.parts)):
            inside = Path(*old.parts[depth:])
            new = database.parent / inside
            if new.exists():
                was, now = Path(*old.parts[:depth]) / inside.parts[0], database.parent / inside.parts[0]
                return (
                    f"MLflow at {self.shown} says {str(old)!r}, which is gone; the same is at {str(new)!r}: the folder "
                    "was moved, and MLflow keeps whole paths. Move it back, or make the old place lead to the new: "
                    f"ln -s {shlex.quote(str(now))} {shlex.quote(str(was))}"
                )
        return None

    def _probe(self, must_exist: bool) -> None:
        """Fail at once where nothing listens, in place of MLflow's long series of retries."""
        database = _sqlite_file(self.uri)
        if must_exist and database is not None and not database.is_file():
            raise ServiceUnavailable(
                f"MLflow at {self.shown} can't be reached: {str(database)!r} is no file. `whirr learn`, or `whirr "
                "train` without --no-mlflow, makes it; mlflow_tracking_uri (WHIRR_MLFLOW_TRACKING_URI) says where "
                "another one is"
            )
        parts = urlsplit(self.uri)
        port = _PORTS.get(parts.scheme.partition("+")[0])
        if port is None or not parts.hostname:
            return
        try:
            socket.create_connection((parts.hostname, parts.port or port), timeout=CONNECT_S).close()
        except OSError as error:
            raise ServiceUnavailable(f"MLflow at {self.shown} can't be reached: {error}") from None


class Version(NamedTuple):
    """A version of a registered model.

    Attributes:
        number: Counts from 1; what it holds never changes.
        digest: SHA-256 of its file, in hex, or None where it was not registered by Whirr.
        from_us: Of a champion: recording time from which on frames are its, microseconds since the epoch; None where
            that isn't known.
        before: Of the present champion: those that were before it, newest first.
        challenger: Of the present champion: the version that challenges it, if another one does.
    """

    number: int
    digest: str | None
    from_us: int | None = None
    before: tuple[Version, ...] = ()
    challenger: Version | None = None


class Listed(NamedTuple):
    """Which version of a registered model is meant now, and which one challenges it, if one does."""

    number: int
    challenger: int | None = None


class ModelRegistry:
    """MLflow's registry as a worker reads it; MLflow is imported when a route first names a model in it.

    Args:
        settings: Tracking server.
    """

    def __init__(self, settings: Settings) -> None:
        # A worker asks again after a few seconds anyway, and must not be kept from stopping.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self._server = TrackingServer(settings)
        self._digests: dict[tuple[str, int], str | None] = {}  # what a version holds never changes

    def resolve(self, uri: ModelUri) -> Version:
        """Return the version that is meant now; of a champion with what stands beside it.

        Raises:
            ModelError: There is no such model, alias or version, or its tags are not what Whirr writes.
            ServiceUnavailable: MLflow can't be reached.
            MissingExtra: It is a database, and what talks to one is not installed.
        """
        with self._server.client(must_exist=True) as client:
            found, aliases = self._server.version(client, uri.name, uri.alias or str(uri.version))
            number, tags = int(found.version), dict(found.tags)
            version = Version(number, tags.get(DIGEST_TAG))
            if uri.alias != CHAMPION:
                return version
            try:
                own, *before = terms(number, tags)
            except ValueError as error:
                raise ModelError(f"model {uri.name!r} version {number}: {error}") from None
            challenger = _listed({alias: int(n) for alias, n in aliases.items()}, CHAMPION).challenger
            return version._replace(
                from_us=own.from_us,
                before=tuple(Version(n, self._digest(client, uri.name, n), from_us) for n, from_us in before),
                challenger=None
                if challenger is None
                else Version(challenger, self._digest(client, uri.name, challenger)),
            )

    def _digest(self, client: Any, name: str, number: int) -> str | None:
        """Return what :class:`Version` says of a version; of one that was deleted, None."""
        if (name, number) not in self._digests:
            try:
                found, _ = self._server.version(client, name, str(number))
            except ModelError:
                return None
            self._digests[name, number] = dict(found.tags).get(DIGEST_TAG)
        return self._digests[name, number]

    def listed(self, template: ModelTemplate) -> dict[str, Listed]:
        """Return the numbers of the versions that are meant now, by name, of each model that is a machine's.

        The registry is asked once for a thousand of them, and looks for them itself.

        Raises:
            ServiceUnavailable: MLflow can't be reached.
            MissingExtra: It is a database, and what talks to one is not installed.
        """
        found: dict[str, Listed] = {}
        wanted, page = f"name LIKE '{template.before}%{template.after}'", None
        with self._server.client(must_exist=True) as client:
            while page is None or page.token:
                page = client.search_registered_models(wanted, max_results=_A_PAGE, page_token=page and page.token)
                for model in page:
                    aliases = {alias: int(number) for alias, number in dict(model.aliases).items()}
                    # In a pattern an underscore stands for any character.
                    if template.alias in aliases and template.machine(model.name) is not None:
                        found[model.name] = _listed(aliases, template.alias)
        return found

    def download(self, name: str, number: int, folder: Path) -> Path:
        """Fetch a version's file into a folder, and return where it is.

        Raises:
            ServiceUnavailable: MLflow, or its artifact store, can't be reached, or doesn't have the file.
        """
        with self._server.client(must_exist=True) as client:
            return self._server.download(client, name, str(number), MODEL_FILE, folder)


def _listed(aliases: Mapping[str, int], alias: str) -> Listed:
    number, challenger = aliases[alias], aliases.get(CHALLENGER)
    return Listed(number, challenger if alias == CHAMPION and challenger != number else None)


def is_missing(error: Exception) -> bool:
    """Whether MLflow says with an error that what was asked for is not there."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the migrations that a new database goes through, and other chatter, off a command's terminal."""
    names = ("alembic", "alembic.runtime.migration", "mlflow", "mlflow.store.db.utils")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _with_driver(uri: str, password: str | None) -> str:
    """Return PostgreSQL's address with the driver that Whirr installs, and with the password that was given apart."""
    parts = urlsplit(uri)
    if parts.scheme.partition("+")[0] not in ("postgres", "postgresql"):
        return uri
    if parts.scheme in ("postgres", "postgresql"):
        parts = parts._replace(scheme="postgresql+psycopg")
    if password is not None and parts.username and parts.password is None:
        parts = _with_password(parts, password)
    return parts.geturl()


def _with_password(parts: SplitResult, password: str) -> SplitResult:
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}")


def _sqlite_file(uri: str) -> Path | None:
    path = uri.removeprefix(_SQLITE)
    return Path(path).absolute() if uri.startswith(_SQLITE) and path else None


def _local(location: str) -> Path | None:
    """Return the folder on this machine that an artifact location names, or None where it is elsewhere."""
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(location) if location.startswith("/") else None


def _shown(uri: str) -> str:
    """Return an address without user, password and query."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc and not parts.query:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"***@{host}" if user else host, query="").geturl()
