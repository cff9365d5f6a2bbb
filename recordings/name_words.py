"""Words of names: what they say of a recording's label and of the split of a data set that it belongs to.

A name is cut into words at whatever is no letter, where capitals begin (``testNormal``) and at digits. Only whole words
count, in any case; numbers don't, nor do digests and UUIDs, whose hex digits spell words by chance.

| says | words |
|---|---|
| normal | normal, normals, healthy, good, ok, gesund, gut |
| anomaly | anomaly, anomalies, anomalous, abnormal, abnormals, abnormality, abnormalities |
| anomaly | fault, faults, faulty, defect, defects, defective, broken, damaged, damage, unhealthy, bad, nok, ng |
| anomaly | failure, failures, failed, leak, leaks, leaking, cavitation, crack, cracked, wear, worn |
| anomaly | imbalance, imbalanced, unbalance, unbalanced, misalignment, misaligned, looseness |
| anomaly | defekt, kaputt, schaden |
| train | train, training |
| test | test, testing, val, validation |

What would have to be guessed is unclear, never guessed: a label beside a negation (``not_normal``, ``no anomaly``,
``fault-free``), words of both labels in one name, a longer word with a label in it (``unnormal``, ``faultless``).
``normalized`` and ``default`` and their like are no labels.

Some words are as often part of another name (Bad Homburg, a leak tester, a wear plate, natural gas). In a file's name
``ok``, ``ng`` and ``gut`` count as its first or last word alone; ``bad``, ``leak``, ``crack`` and ``wear`` as its last
one, and are unclear before other words, unless a folder says the label. Numbers, splits and words such as
``recording`` don't count here. Of folders these words label those whose whole name they are, and ``pump bad`` is
unclear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Label = Literal["normal", "anomaly"]
Split = Literal["train", "test"]

_NORMAL: Final = ("normal", "normals", "healthy", "good", "ok", "gesund", "gut")
_ANOMALY: Final = (
    *("anomaly", "anomalies", "anomalous", "abnormal", "abnormals", "abnormality", "abnormalities"),
    *("fault", "faults", "faulty", "defect", "defects", "defective"),
    *("broken", "damaged", "damage", "unhealthy", "bad", "nok", "ng"),
    *("failure", "failures", "failed", "leak", "leaks", "leaking", "cavitation", "crack", "cracked", "wear", "worn"),
    *("imbalance", "imbalanced", "unbalance", "unbalanced", "misalignment", "misaligned", "looseness"),
    *("defekt", "kaputt", "schaden"),
)
# Also parts of other names: the first or last word of a file's name, or the whole of a folder's.
_AT_ENDS: Final = frozenset({"ok", "ng", "gut"})
# Likewise, but the last word only: a fault that is not seen costs more than a question.
_NOUNS: Final = frozenset({"leak", "crack", "wear"})
_AT_THE_END: Final = _NOUNS | {"bad"}
# Judgements that a machine may be called by with a number (ok-1).
_NO_HINTS: Final = _AT_ENDS | _AT_THE_END | {"good", "nok"}
LABEL_OF_WORD: Final[dict[str, Label]] = {
    **dict.fromkeys(_NORMAL, "normal"),
    **dict.fromkeys(_ANOMALY, "anomaly"),
}
_SPLITS: Final[dict[str, Split]] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "test",
    "validation": "test",
}
# Anywhere before a label they turn it round; "no" and the like only right before it (no. 7).
_NEGATIONS: Final = frozenset({"not", "non", "without", "isnt", "never", "nicht", "kein", "keine", "ohne", "sans"})
_NEGATIONS_BEFORE: Final = frozenset(
    {"no", "un", "ab", "sub", "semi", "quasi", "near", "nearly", "almost", "anti", "pseudo"}
)
_NEGATIONS_AFTER: Final = frozenset({"free", "less"})
# They may stand beside a label or a split in a folder's name and add nothing to it.
_FILLERS: Final = frozenset(
    {"a", "and", "the", "only", "audio", "sound", "sounds", "wav", "wavs", "data", "dataset", "set", "sets", "split"}
    | {"clip", "clips", "file", "files", "recording", "recordings", "sample", "samples"}
    | {"condition", "conditions", "operation", "state", "states"}
)
_LABEL_INSIDE = re.compile(r"normal|anomal|fault|defect|health|defekt|kaputt|schaden")
_NO_LABEL_INSIDE = re.compile(r"normali[sz]\w*|default\w*|health(care)?")
_WORD = re.compile(r"[^\W\d_]+|\d+")
_DIGEST = re.compile(
    r"(?<![^\W_])([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,})(?![^\W_])", re.ASCII | re.IGNORECASE
)
_NUMBER: Final = "0"  # stands for any
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class AmbiguousLabel:
    """A label that can't be told, and why.

    Attributes:
        reason: Why.
        yields: Whether it may be no label at all, so that a folder's counts where there is one.
    """

    reason: str
    yields: bool = False


def words_of(text: str) -> list[str]:
    """Return a name's words in lower case, ``0`` for numbers: ``["pump", "0", "test"]`` of ``pump-7_Test``."""
    runs = _WORD.findall(_DIGEST.sub(_NUMBER, text))
    return [_NUMBER if run.isdecimal() else word.casefold() for run in runs for word in _HUMP.split(run)]


def label_in(text: str) -> Label | AmbiguousLabel | None:
    """Return the label that a name says, None if it says none, or why it can't be told."""
    words = words_of(text)
    found: dict[Label, str] = {}
    ambiguous = ""
    ends = [index for index, word in enumerate(words) if word not in _FILLERS | {_NUMBER} | _SPLITS.keys()]
    for index, word in enumerate(words):
        label = LABEL_OF_WORD.get(word)
        if label is None:
            if _LABEL_INSIDE.search(word) and not _NO_LABEL_INSIDE.fullmatch(word):
                return AmbiguousLabel(f"{text!r} holds the word {word!r}")
            continue
        if denied := _denied(words, index):
            return AmbiguousLabel(f"{text!r} says {denied!r}")
        if index not in (ends[0], ends[-1]) and word in _AT_ENDS:
            continue
        if index != ends[-1] and word in _AT_THE_END:
            ambiguous = word
            continue
        found[label] = word
    if len(found) > 1:
        return AmbiguousLabel(f"{text!r} says both {found['normal']!r} and {found['anomaly']!r}")
    if not found and ambiguous:
        return AmbiguousLabel(
            f"in {text!r} the word {ambiguous!r} may be its label or part of another name", yields=True
        )
    return next(iter(found), None)


def _denied(words: list[str], index: int) -> str | None:
    before, after = words[:index], words[index + 1 : index + 2]
    if any(word in _NEGATIONS for word in before) or (before and before[-1] in _NEGATIONS_BEFORE):
        return " ".join(words[: index + 1])
    if after and after[0] in _NEGATIONS_AFTER:
        return " ".join(words[index : index + 2])
    return None


def unlabelled(stem: str) -> str:
    """Return a file's name without its labels: ``pump_7`` of ``pump_normal_7``, so that both labels sort as one."""
    kept = re.sub(
        r"[^\W\d_]+[\W_]?", lambda match: "" if match[0].rstrip("_- .").casefold() in LABEL_OF_WORD else match[0], stem
    )
    return kept if kept.strip("_- .") else stem


@dataclass(frozen=True, slots=True)
class FolderName:
    """What a folder's own name says.

    Attributes:
        label: What it labels its recordings as, why that can't be told, or None.
        hint: A label among other words (``pump-7_faulty``), which may be a machine's name; or None.
        split: Which split of a data set it holds, or None.
        is_role: Whether it is named for that alone, and so for no machine.
    """

    label: Label | AmbiguousLabel | None = None
    hint: Label | None = None
    split: Split | None = None
    is_role: bool = False


@lru_cache(maxsize=4096)  # asked for each recording in it
def folder_name(text: str) -> FolderName:
    """Return what a folder's name says: ``Train``, ``abnormal_02`` and ``test data`` are roles, ``pump-2`` is none."""
    words = [word for word in words_of(text) if word not in _FILLERS and word != _NUMBER]
    denials = _NEGATIONS | _NEGATIONS_BEFORE | _NEGATIONS_AFTER
    certain = [word for word in words if word in LABEL_OF_WORD and word not in _NO_HINTS]
    is_role = any(word in LABEL_OF_WORD or word in _SPLITS for word in words) and all(
        word in LABEL_OF_WORD or word in _SPLITS or word in denials for word in words
    )
    if _NOUNS & {*words} and len(words) > 1:
        is_role = False  # a leak test
    certain += words if len(words) == 1 and words[0] in _AT_THE_END else []
    if is_role and (certain or not any(char.isdigit() for char in text)):  # test-2 and ok-1 may be machines
        splits = {_SPLITS[word] for word in words if word in _SPLITS}
        return FolderName(label=label_in(text), split=splits.pop() if len(splits) == 1 else None, is_role=True)
    label = label_in(text)
    if isinstance(label, AmbiguousLabel) and not label.yields:
        return FolderName(label=label)
    return FolderName(hint=LABEL_OF_WORD[certain[0]] if certain else "anomaly" if {*words[-1:]} & _AT_THE_END else None)
