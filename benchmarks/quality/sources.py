"""What a figure rests on: a hash over the source of a detector and of the project's modules that it imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from trainer.detector import DETECTORS

MEMBERS: Final = frozenset(DETECTORS) - {"auto"}  # a word that means much else, and itself a combination
REPOSITORY: Final = Path(__file__).resolve().parents[2]
FOLLOWED: Final = ("trainer", "stream_app.pipeline", "edge_agent.simulator")
# The table of detectors and the declarations of options: what they say of one is kept beside its figures.
TABLES: Final = ("trainer.detector", "trainer.train_options")
# How any detector's windows come about.
SHARED: Final = (
    "trainer.feature_choice",
    "trainer.screening",
    "trainer.spectrograms",
    "trainer.recording_set",
    "trainer.trimming",
)


def detector_hash(names: Iterable[str]) -> str:
    """Return a hash over the source of detectors, such as the candidates of a combination."""
    return source_hash([*(DETECTORS[name].module for name in names), *SHARED])


def source_hash(modules: Iterable[str]) -> str:
    """Return a hash over modules and what they import, directly or not; comments and layout don't count.

    A text in a module that is a detector's name counts as its import: combinations find their members so.

    Raises:
        ValueError: One of ``modules`` is none of :data:`FOLLOWED`.
    """
    found: set[str] = set()
    waiting = list(modules)
    if missing := [module for module in waiting if _path(module) is None]:
        raise ValueError(f"no source of {', '.join(missing)}; expected modules of {', '.join(FOLLOWED)}")
    while waiting:
        module = waiting.pop()
        path = _path(module)
        if module in found or path is None:
            continue
        found.add(module)
        waiting += _imports(path)
    sources = [f"{module} {dumped(path)}" for module in sorted(found) if (path := _path(module))]
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()[:12]


@cache
def dumped(path: Path) -> str:
    """Return a module's syntax tree as text: its source without comments and layout."""
    return ast.dump(_tree(path))


def _path(module: str) -> Path | None:
    """Return a followed module's file, or None."""
    if module in TABLES or not any(module == root or module.startswith(f"{root}.") for root in FOLLOWED):
        return None
    path = REPOSITORY.joinpath(*module.split("."))
    return next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(path: Path) -> tuple[str, ...]:
    return tuple(_imported(_tree(path)))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and node.value in MEMBERS:
            yield DETECTORS[node.value].module
