"""What trainer and worker agree on in the model registry: aliases, tags, and how a route names a model in it."""

from __future__ import annotations

import re
from dataclasses import dataclass

CHAMPION = "champion"  # the version that workers use
CHALLENGER = "challenger"  # the newest one
MODEL_FILE = "model.onnx"  # its place in the artifact folder of a version
DIGEST_TAG = "sha256"  # of that file, in hex

PREFIX = "models:/"
_URI = re.compile(
    PREFIX + r"(?P<name>[A-Za-z0-9._-]{1,128})(?:@(?P<alias>[A-Za-z0-9_-]{1,255})|/(?P<version>[1-9][0-9]{0,8}))"
)


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
