"""What trainer and worker agree on in the model registry: aliases, tags, and how a route names a model in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from schemas.machine_name import MAX_MODEL_NAME, machine_of, name_of

CHAMPION = "champion"  # the version that workers use
CHALLENGER = "challenger"  # the newest one
MODEL_FILE = "model.onnx"  # its place in the artifact folder of a version
DIGEST_TAG = "sha256"  # of that file, in hex

PREFIX = "models:/"
MACHINE: Final = "{machine}"  # stands for the machine in the name of a model of its own
MAX_FIXED = 64  # characters of such a name besides: with any id that has no colon it fits
_ALIAS = r"@(?P<alias>[A-Za-z0-9_-]{1,255})"
_URI = re.compile(
    PREFIX + rf"(?P<name>[A-Za-z0-9._-]{{1,{MAX_MODEL_NAME}}})(?:{_ALIAS}|/(?P<version>[1-9][0-9]{{0,8}}))"
)
_TEMPLATE = re.compile(PREFIX + r"(?P<before>[A-Za-z0-9._-]*)\{machine\}(?P<after>[A-Za-z0-9._-]*)" + _ALIAS)


@dataclass(frozen=True, slots=True)
class ModelUri:
    """A registered model, by alias or by version; the other one is None."""

    name: str
    alias: str | None
    version: int | None

    @classmethod
    def parse(cls, text: str) -> ModelUri | None:
        """Return what ``text`` names in the registry, or None where it is the path of a file.

        Raises:
            ValueError: It begins as a registry's address does, and is none.
        """
        if not text.startswith("models:"):
            return None
        match = _URI.fullmatch(text)
        if match is None:
            raise ValueError(
                f"model is {text!r}; expected the path of a file, {PREFIX}NAME@{CHAMPION} or {PREFIX}NAME/VERSION"
            )
        version = match["version"]
        return cls(match["name"], match["alias"], None if version is None else int(version))

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}@{self.alias}" if self.alias else f"{PREFIX}{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class ModelTemplate:
    """A route's model of which each machine has one of its own: ``models:/whirr.{machine}@champion``.

    Attributes:
        before, after: What the names have around the machine; not both are empty.
        alias: Of the version that is meant.
    """

    before: str
    after: str
    alias: str

    @classmethod
    def parse(cls, text: str) -> ModelTemplate | None:
        """Return the template that ``text`` is, or None where it names one model.

        Raises:
            ValueError: It has ``{machine}``, and is no template that names models in the registry.
        """
        if MACHINE not in text and not (text.startswith(PREFIX) and "{" in text):
            return None
        expected = f"expected {PREFIX}NAME.{MACHINE}@{CHAMPION}"
        if not text.startswith("models:"):
            raise ValueError(
                f"model is {text!r}, a path with {MACHINE}; each machine can have a registered model: {expected}"
            )
        if odd := [one for one in re.findall(r"\{[^{}]*\}?", text) if one != MACHINE]:
            raise ValueError(f"model is {text!r}, with {odd[0]!r}; the only placeholder is {MACHINE}: {expected}")
        if text.count(MACHINE) > 1:
            raise ValueError(f"model is {text!r}, with {MACHINE} more than once; {expected}")
        match = _TEMPLATE.fullmatch(text)
        if match is None:
            raise ValueError(f"model is {text!r}; {expected}, with an alias: a version's number fits one model alone")
        before, after = match["before"], match["after"]
        if not re.search("[A-Za-z0-9]", before):
            # Else any model of the registry would be some machine's.
            raise ValueError(f"model is {text!r}; {expected}: a name of letters or digits before {MACHINE}")
        fixed = len(before) + len(after)
        if fixed > MAX_FIXED:
            raise ValueError(f"model is {text!r}: {fixed} characters around {MACHINE}; expected at most {MAX_FIXED}")
        return cls(before, after, match["alias"])

    @property
    def name(self) -> str:
        """The name with its placeholder."""
        return f"{self.before}{MACHINE}{self.after}"

    def uri(self, machine_id: str) -> ModelUri:
        """Return which registered model is the machine's."""
        return ModelUri(f"{self.before}{name_of(machine_id)}{self.after}", self.alias, None)

    def machine(self, name: str) -> str | None:
        """Return whose the registered model ``name`` is, None where it is no machine's: the inverse of :meth:`uri`."""
        if len(name) <= len(self.before) + len(self.after):
            return None
        if not (name.startswith(self.before) and name.endswith(self.after)):
            return None
        return machine_of(name[len(self.before) : len(name) - len(self.after)])

    def is_own(self, address: str) -> bool:
        """Whether an address in the registry is that of some machine's model."""
        uri = ModelUri.parse(address)
        return uri is not None and uri.alias == self.alias and self.machine(uri.name) is not None

    def with_alias(self, alias: str) -> ModelTemplate:
        """Return the template that means another alias."""
        return ModelTemplate(self.before, self.after, alias)

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}@{self.alias}"
