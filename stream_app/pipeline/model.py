"""A model: one ONNX file that turns log-mel windows into scores, and says how it wants to be fed."""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from schemas.condition import CONDITIONS, UNKNOWN, Condition
from schemas.errors import ModelError
from schemas.model_metadata import GoldenWindow, ModelMetadata
from stream_app.pipeline.features import shared_features
from stream_app.pipeline.model_stack import Stacked, Stacks
from whirr.options import first_wrong

log = logging.getLogger(__name__)

METADATA_KEY = "whirr"
INPUT = "log_mel"
CONDITION = "condition"  # the second input, of a model whose metadata states conditions
OUTPUTS = ("score", "band_error")
MAX_BATCH = 64
_AT_ONCE = 32  # windows in a run: from here on a window costs no less, of any detector
GOLDEN_TOLERANCE = 1e-4
MAX_METADATA_CHARS = 1 << 26
MAX_WINDOW_VALUES = 1 << 24  # a window is made to try the model with
SESSION_SIZE = 2.2  # what onnxruntime keeps of a model, over its file: measured 2.0 to 2.2 of conv_ae
STACKED_SIZE = 1.2  # what is kept of a model in a stack, over its weights: measured 1.1 to 1.3
MAX_BYTES = 256 << 20  # of a model file; the largest that whirr train writes has some 20 MB

Float32 = NDArray[np.float32]
Computing: TypeAlias = ort.InferenceSession | Stacked
T = TypeVar("T")
_METADATA: TypeAdapter[ModelMetadata] = TypeAdapter(ModelMetadata)


class Model:
    """A loaded model. Safe to use from several threads.

    Attributes:
        metadata: What the file says of itself.
        features: The features that it was trained on.
        path: Where it was loaded from.
        digest: SHA-256 of the file, in hex.
        trained_on: Ids of the machines that it was trained on; empty where it does not say.
        highest_band_from_hz: Where its highest band begins.
        n_bytes: About how much memory it takes to score with it.
    """

    def __init__(
        self,
        computed: Computing | None,
        metadata: ModelMetadata,
        path: Path,
        digest: str,
        n_bytes: int = 0,
    ) -> None:
        self._computed = computed
        self._failure = ""
        self.n_bytes = n_bytes
        self.metadata = metadata
        self.features = shared_features(metadata.features)
        self.path = path
        self.digest = digest
        # Files from before `machines` tell those that had recordings enough for a threshold of their own.
        self.trained_on = frozenset(metadata.machines or metadata.machine_thresholds)
        self.highest_band_from_hz = float(self.features.band_edges_hz[:, 0].max())
        self.normal_band_error = np.asarray(metadata.normal_band_error, np.float64)

    @classmethod
    def described(cls, metadata: str, path: str | Path, digest: str) -> Model:
        """Return a model that another process has loaded and tried; here it tells what it is.

        It can't score, before :meth:`wake` lets it.

        Args:
            metadata: As :meth:`metadata_json` gave it.
            path: Of the file.
            digest: Its SHA-256, in hex.
        """
        return cls(None, _METADATA.validate_json(metadata), Path(path), digest)

    def metadata_json(self) -> str:
        """Return the metadata as JSON, without golden windows, which are most of it: they have been looked at."""
        return _METADATA.dump_json(replace(self.metadata, golden=[])).decode()

    @property
    def can_score(self) -> bool:
        """Whether it can score here and now."""
        return self._computed is not None

    def wake(self, raw: bytes, stacks: Stacks) -> None:
        """Let a model that is only described score.

        Args:
            raw: What its file holds.
            stacks: Those of the process.

        Raises:
            ModelError: It can't be computed after all; frames that it is given all the same are told why.
        """
        try:
            _first_usable(raw, self.path, stacks, lambda computed: self._try(computed, raw))
        except ModelError as error:
            self._failure = str(error)
            raise
        self._failure = ""

    def _try(self, computed: Computing, raw: bytes) -> None:
        self._computed, self.n_bytes = computed, _size(computed, raw)
        try:
            self._check_scores()
        except BaseException:
            self.rest()
            raise

    def rest(self) -> None:
        """Let go of what scores; what the model says of itself stays."""
        self._computed = None

    @classmethod
    def load(cls, path: str | Path, raw: bytes | None = None, stacks: Stacks | None = None) -> Model:
        """Return the model in a file, after it has reproduced the scores of its golden windows.

        Args:
            path: Of the file.
            raw: What the file holds; default: it is read.
            stacks: Those of the process, for a model that is one of many of a kind; it takes less memory then, and is
                scored together with others. Default: it has a session of its own.

        Raises:
            ModelError: The file is missing, is no ONNX file that can be computed here, carries no valid metadata,
                has other inputs or outputs than the metadata says, or gives other scores for its golden windows.
        """
        path = Path(path)
        raw = model_bytes(path) if raw is None else raw
        return _first_usable(raw, path, stacks, lambda computed: cls._loaded(computed, path, raw, stacks is not None))

    @classmethod
    def _loaded(cls, computed: Computing, path: Path, raw: bytes, brief: bool) -> Model:
        metadata = _metadata(computed, path)
        _check_shapes(computed, metadata, path)
        _check_means(metadata, path)
        model = cls(computed, metadata, path, hashlib.sha256(raw).hexdigest(), _size(computed, raw))
        model._check_scores()
        if brief:
            model.metadata = replace(metadata, golden=[])  # they are most of the metadata
        return model

    def score(self, windows: Float32, conditions: Float32 | None = None) -> tuple[Float32, Float32]:
        """Score windows; the answer for one does not depend on the others.

        Args:
            windows: float32 [window, channel, band, time].
            conditions: How the machine ran, float32 [window, 2]: speed and load, NaN for what isn't known; None:
                nothing is. Of a model that takes none they are of no account.

        Returns:
            Scores, float32 [window], at least 0, larger is worse; and what each band contributed, float32
            [window, channel, band].
        """
        if self._computed is None:
            raise RuntimeError(self._failure or f"model {str(self.path)!r} is computed by another process")
        if isinstance(self._computed, Stacked):
            return self._computed.score(windows)
        inputs = {INPUT: windows}
        if self.metadata.conditions:
            inputs[CONDITION] = as_array([UNKNOWN] * len(windows)) if conditions is None else conditions
        parts = [
            self._computed.run(OUTPUTS, {name: of[i : i + _AT_ONCE] for name, of in inputs.items()})
            for i in range(0, len(windows), _AT_ONCE)
        ]
        if len(parts) == 1:
            return parts[0][0], parts[0][1]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    @property
    def together(self) -> tuple[int, str]:
        """The same for models whose windows one call can score (:func:`score_each`), and whose frames it can judge."""
        computed = self._computed.stack if isinstance(self._computed, Stacked) else self
        return id(computed), self.metadata.frame_score

    def _check_scores(self) -> None:
        """Check that a window of silence gets a score at all, and golden windows theirs."""
        features = self.metadata.features
        shape = (1, features.channels, features.bands, features.window_columns)
        score, band_error = self.score(np.full(shape, np.log(features.floor), np.float32))
        if not (np.isfinite(score).all() and np.isfinite(band_error).all() and score[0] >= 0):
            raise ModelError(
                f"model {str(self.path)!r} scores silence as {score[0]}; expected a finite number, at least 0"
            )
        for number, window in enumerate(self.metadata.golden):
            self._check_golden(number, window)

    def _check_golden(self, number: int, window: GoldenWindow) -> None:
        condition = Condition(*(window.condition or UNKNOWN))
        found = float(self.score(golden_array(window)[None], as_array([condition]))[0][0])
        if not abs(found - window.score) <= GOLDEN_TOLERANCE * max(1.0, abs(window.score)):
            raise ModelError(
                f"model {str(self.path)!r}: golden window {number} scores {found:.6g} here; "
                f"the file says {window.score:.6g}"
            )


def score_each(models: Sequence[Model], windows: Float32, conditions: Float32 | None) -> tuple[Float32, Float32]:
    """Score windows, each by its own model; the answer for one does not depend on the others.

    Args:
        models: Of each window; with one :attr:`Model.together`.
        windows: As :meth:`Model.score` takes them, whose answer this is.
        conditions: As it takes them, too.
    """
    first = models[0]._computed
    if not isinstance(first, Stacked):
        return models[0].score(windows, conditions)
    return first.stack.score([one._computed.weights for one in models if isinstance(one._computed, Stacked)], windows)


def model_bytes(path: Path) -> bytes:
    """Return what a model file holds; a pipe or a device is not waited for, and nothing that is too large is read.

    Raises:
        ModelError: It is missing, no ordinary file, larger than :data:`MAX_BYTES`, or can't be read.
    """
    try:
        # Without blocking: opening a pipe would wait for whoever writes to it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ModelError(f"model {str(path)!r} is a pipe, a socket or a device; expected a file")
            raw = file.read(MAX_BYTES + 1) if found.st_size <= MAX_BYTES else b""
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"model {str(path)!r} can't be read: {reason}") from None
    if found.st_size > MAX_BYTES or len(raw) > MAX_BYTES:
        raise ModelError(f"model {str(path)!r} has {found.st_size} bytes; expected at most {MAX_BYTES}")
    return raw


def golden_array(window: GoldenWindow) -> Float32:
    """Return a golden window as float32 [channel, band, time]."""
    raw = base64.b64decode(window.log_mel_base64)
    return np.frombuffer(raw, "<f4").reshape(window.shape).astype(np.float32)


def as_array(conditions: Sequence[Condition]) -> Float32:
    """Return conditions as a model takes them, float32 [window, condition], NaN for what isn't known."""
    stated = [[math.nan if number is None else number for number in one] for one in conditions]
    return np.array(stated, np.float32).reshape(len(conditions), len(CONDITIONS))


def golden_window(log_mel: Float32, score: float, condition: Condition = UNKNOWN) -> GoldenWindow:
    """Return a window, float32 [channel, band, time], with its score as the metadata carries it."""
    channels, bands, columns = log_mel.shape
    raw = np.ascontiguousarray(log_mel, "<f4").tobytes()
    return GoldenWindow(
        shape=(channels, bands, columns),
        log_mel_base64=base64.b64encode(raw).decode(),
        score=score,
        condition=None if condition == UNKNOWN else (condition.rpm, condition.load),
    )


def _first_usable(raw: bytes, path: Path, stacks: Stacks | None, use: Callable[[Computing], T]) -> T:
    """Return what ``use`` makes of what computes a model: its place in a stack, or else a session of its own.

    Raises:
        ModelError: It can't be computed, or ``use`` fails.
    """
    try:
        stacked = None if stacks is None else stacks.take(raw)
        if stacked is not None:
            try:
                return use(stacked)
            except Exception as error:
                log.info("model %r is tried in a session of its own; among others: %s", str(path), _brief(error))
        return use(_session(raw, path))
    except ModelError:
        raise
    except Exception as error:
        # A damaged file can fail anywhere; a running worker must be able to refuse it and go on.
        raise ModelError(f"model {str(path)!r} can't be used: {_brief(error)}") from error


def _session(raw: bytes, path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Whirr scales with processes: one thread that sleeps when idle leaves the other cores to other workers.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    # Weights in other files would be looked for where we stand: in a place where no file can be, there are none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each status code
        if "xternal data" in str(error):
            raise ModelError(f"model {str(path)!r} keeps weights in another file; expected all in one") from None
        raise ModelError(f"model {str(path)!r} is no ONNX file that can be computed here: {_brief(error)}") from None
    # It keeps the file to begin anew with another provider, of which there is none here: as much again as the weights.
    session.disable_fallback()
    session._model_bytes = b""
    return session


def _size(computed: Computing, raw: bytes) -> int:
    """Return about how many bytes of memory a model takes, given its file."""
    return round(STACKED_SIZE * computed.weights.n_bytes if isinstance(computed, Stacked) else SESSION_SIZE * len(raw))


def _metadata(computed: Computing, path: Path) -> ModelMetadata:
    stated = computed.metadata if isinstance(computed, Stacked) else computed.get_modelmeta().custom_metadata_map
    text = stated.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"model {str(path)!r} has no metadata under {METADATA_KEY!r}; was it made by `whirr train`?")
    if len(text) > MAX_METADATA_CHARS:
        raise ModelError(
            f"model {str(path)!r}: metadata: {len(text)} characters; at most {MAX_METADATA_CHARS} are taken"
        )
    try:
        return _METADATA.validate_json(text)
    except ValidationError as error:
        raise ModelError(f"model {str(path)!r}: metadata: {first_wrong(error)}") from None


def _check_shapes(computed: Computing, metadata: ModelMetadata, path: Path) -> None:
    features = metadata.features
    window = features.channels, features.bands, features.window_columns
    if math.prod(window) > MAX_WINDOW_VALUES:
        raise ModelError(
            f"model {str(path)!r}: metadata: features: a window of {window[0]} channels, {window[1]} bands and "
            f"{window[2]} columns has {math.prod(window)} values; at most {MAX_WINDOW_VALUES} are taken"
        )
    for number, golden in enumerate(metadata.golden):
        _check_golden_shape(number, golden, metadata, path)
    nodes = computed.stack.ends if isinstance(computed, Stacked) else (*computed.get_inputs(), *computed.get_outputs())
    shapes: dict[str, Any] = {node.name: node.shape for node in nodes}
    columns = features.window_columns if features.time_axis == "fixed" else None
    expected: dict[str, list[int | None]] = {
        INPUT: [None, features.channels, features.bands, columns],
        "score": [None],
        "band_error": [None, features.channels, features.bands],
    }
    if metadata.conditions:
        expected[CONDITION] = [None, len(CONDITIONS)]
    elif CONDITION in shapes:
        raise ModelError(f"model {str(path)!r} has the input {CONDITION!r}; its metadata states no conditions")
    for name, want in expected.items():
        got = shapes.get(name)
        if got is None:
            raise ModelError(f"model {str(path)!r} has no input or output {name!r}; it has {sorted(shapes)}")
        fits = len(got) == len(want) and all(
            b is None or a == b or not isinstance(a, int) for a, b in zip(got, want, strict=True)
        )
        if not fits:
            shown = ["any" if size is None else size for size in want]
            raise ModelError(f"model {str(path)!r}: {name} has the shape {got}; its metadata says {shown}")
    for node in nodes:
        if node.name in expected and node.type != "tensor(float)":
            raise ModelError(f"model {str(path)!r}: {node.name} is a {node.type}; expected tensor(float)")


def _check_means(metadata: ModelMetadata, path: Path) -> None:
    features = metadata.features
    means = np.shape(metadata.normal_band_error)
    if means != (features.channels, features.bands):
        want_means = (features.channels, features.bands)
        raise ModelError(f"model {str(path)!r}: normal_band_error has the shape {means}; expected {want_means}")


def _check_golden_shape(number: int, golden: GoldenWindow, metadata: ModelMetadata, path: Path) -> None:
    features = metadata.features
    channels, bands, columns = golden.shape
    fits = columns == features.window_columns if features.time_axis == "fixed" else columns >= features.window_columns
    size = math.prod(golden.shape)
    if (channels, bands) != (features.channels, features.bands) or not fits or size > MAX_WINDOW_VALUES:
        expected = features.channels, features.bands, features.window_columns
        raise ModelError(f"model {str(path)!r}: metadata: golden.{number}.shape: {golden.shape}; expected {expected}")
    characters = 4 * math.ceil(4 * size / 3)
    if len(golden.log_mel_base64) != characters:
        raise ModelError(
            f"model {str(path)!r}: metadata: golden.{number}.log_mel_base64: {len(golden.log_mel_base64)} characters; "
            f"expected {characters} for the shape {golden.shape}"
        )


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
