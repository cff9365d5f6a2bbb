"""Every exception that Whirr raises on purpose, in one tree.

    WhirrError
    ├── SettingsError        a setting is missing, malformed or contradicts another
    ├── FrameRejected        one frame can't be used; it becomes a dead letter with ``code``
    ├── ModelError           a model isn't there, can't be read, can't be computed, or disagrees with itself
    ├── PromotionRefused     a challenger is worse than the champion
    ├── RecordingError       an audio file or folder given to the edge agent or the trainer can't be used
    ├── FeatureStoreError    the feature store's definitions are missing, or are another version's
    ├── ReplayFailed         a replay's figures, or its comparison with live answers, fall short of what was asked
    ├── ServiceUnavailable   Kafka, MLflow or another service can't be reached
    ├── AccessRefused        Kafka is there and lets this client not in, or not do that
    └── MissingExtra         a part of Whirr is used whose packages are not installed

Each message names the offending value and what was expected. The command line prints the message without a
traceback and exits with ``exit_code``.
"""

from __future__ import annotations


class WhirrError(Exception):
    """Base of all deliberate errors."""

    exit_code = 1


class SettingsError(WhirrError):
    """A setting is missing, malformed or contradicts another."""

    exit_code = 2


class FrameRejected(WhirrError):
    """One frame can't be used.

    Attributes:
        code: One of ``schemas.ERROR_CODES``; goes into the dead letter's ``whirr_error`` header.
        detail: The offending value and what was expected; goes into ``whirr_detail``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ModelError(WhirrError):
    """A model is neither a file nor registered, can't be computed, or its golden windows disagree."""

    exit_code = 2


class PromotionRefused(WhirrError):
    """A challenger is worse than the champion, or there is nothing to tell by."""

    exit_code = 4


class RecordingError(WhirrError):
    """An audio file or a folder of them can't be used."""

    exit_code = 2


class FeatureStoreError(WhirrError):
    """The feature store's definitions are missing, or are another version's."""

    exit_code = 2


class ReplayFailed(WhirrError):
    """A replay's figures, or its comparison with live answers, fall short of what was asked for."""

    exit_code = 6


class ServiceUnavailable(WhirrError):
    """A service that Whirr needs can't be reached."""

    exit_code = 3


class AccessRefused(WhirrError):
    """A service is there, but refuses: a wrong password, a certificate that is not trusted, a right not granted."""

    exit_code = 5


class MissingExtra(WhirrError):
    """A part of Whirr is used whose packages are not installed."""

    exit_code = 2

    def __init__(self, what: str, extra: str, otherwise: str = "") -> None:
        needs = f"{what} needs the extra `{extra}`: in Whirr's checkout, pip install '.[{extra}]'"
        super().__init__(f"{needs}; {otherwise}" if otherwise else needs)
        self.extra = extra
