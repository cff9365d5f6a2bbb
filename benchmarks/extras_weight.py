"""What each extra weighs: ``python -m benchmarks.extras_weight`` installs each by itself, and counts.

The last line is JSON. The versions are those of constraints.txt; what weighs how much depends on the platform,
PyTorch's CUDA libraries above all, which the Python registry's builds for Linux bring along.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from commands._output import print_json, print_line, stderr
from schemas.errors import WhirrError
from whirr.terminal import printable

REPOSITORY = Path(__file__).resolve().parents[1]
BASE = "base"
OF_USERS = ("stream", "embedded", "train", "audio")


@dataclass(frozen=True, slots=True)
class Weight:
    """What is in an environment.

    Attributes:
        packages: How many packages.
        megabytes: What their files hold, unpacked (1 MB is 1,000,000 bytes).
    """

    packages: int
    megabytes: int


app = typer.Typer(add_completion=False)


@app.command()
def main(
    extra: Annotated[
        list[str] | None, typer.Argument(help="Extras, with commas between those that go together; default: each.")
    ] = None,
) -> None:
    """Install extras, each into an environment of its own, and print what is in it."""
    wanted = extra or [BASE, *OF_USERS, "stream,embedded", "stream,embedded,train"]
    known = {BASE, *tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]}
    if unknown := sorted({name for together in wanted for name in together.split(",")} - known):
        raise typer.BadParameter(f"{unknown[0]!r} is no extra; there are {', '.join(sorted(known - {BASE}))}")
    weights = {}
    for together in wanted:
        weights[together] = weight = weigh([] if together == BASE else together.split(","))
        print_line(f"{printable(together):24} {weight.packages:4} packages {weight.megabytes:7,} MB")
    print_json({name: {"packages": weight.packages, "megabytes": weight.megabytes} for name, weight in weights.items()})


def weigh(extras: list[str]) -> Weight:
    """Return what Whirr with these extras, and all that they need, weighs once installed.

    Raises:
        WhirrError: It can't be installed.
    """
    with tempfile.TemporaryDirectory(prefix="whirr-weight-") as folder:
        environment = Path(folder) / "venv"
        python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        _uv("venv", "--quiet", "--python", sys.executable, str(environment))
        what = f"{REPOSITORY}[{','.join(extras)}]" if extras else str(REPOSITORY)
        constraints = str(REPOSITORY / "constraints.txt")
        _uv("pip", "install", "--quiet", "--python", str(python), "--constraints", constraints, what)
        packages = list(environment.rglob("*.dist-info"))
        files = {(found.st_dev, found.st_ino): found.st_size for found in _stats(environment)}
        return Weight(len(packages), round(sum(files.values()) / 1e6))


def _stats(folder: Path) -> Iterator[os.stat_result]:
    return (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _uv(*args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uv", *args], check=False, capture_output=True, text=True, cwd=REPOSITORY
    )
    if done.returncode:
        raise WhirrError(f"uv {' '.join(args)} failed:\n{done.stderr}")


if __name__ == "__main__":
    try:
        app()
    except WhirrError as error:
        stderr.print(str(error))
        sys.exit(1)
