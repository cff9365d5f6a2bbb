"""Fetch public recordings of machines: ``python -m scripts.fetch_dataset mimii --kind fan`` or ``cwru``.

They come from their publishers, never from this project, and are laid out as ``OUT/<machine>/train/normal_*`` and
``OUT/<machine>/test/{normal,anomaly}_*``: what ``whirr train --normal OUT`` and ``whirr replay OUT`` take.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TransferSpeedColumn

from commands._output import print_error, print_json, stderr, stdout
from schemas.errors import WhirrError

app = typer.Typer(add_completion=False, no_args_is_help=True, help=(__doc__ or "").partition("\n\n")[2])
DOWNLOADS = ".downloads"  # hidden: recordings are not looked for in it

Out = Annotated[Path, typer.Option(help="Folder for the recordings; downloads are kept in .downloads below it")]
Publisher = Annotated[str | None, typer.Option(help="Address of a mirror in place of the publisher's", metavar="URL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object")]


class Kind(StrEnum):
    """MIMII's kinds of machine."""

    fan = "fan"
    pump = "pump"
    slider = "slider"
    valve = "valve"


class Noise(StrEnum):
    """MIMII's noise levels: the machine's level over the factory's, in dB."""

    low = "6"
    medium = "0"
    high = "-6"


@app.command()
def mimii(
    kind: Annotated[list[Kind], typer.Option(help="Kind of machine; may be repeated")],
    noise: Annotated[Noise, typer.Option(help="Signal-to-noise ratio in dB")] = Noise.low,
    out: Out = Path("data/mimii"),
    all_channels: Annotated[bool, typer.Option("--all-channels", help="Keep all 8 microphones, not the first")] = False,
    publisher: Publisher = None,
    as_json: AsJson = False,
) -> None:
    """Fetch sound of fans, pumps, sliders or valves (MIMII), about 10 GB for each kind."""
    from examples.datasets import mimii as dataset
    from examples.datasets.download import fetch

    _notice(dataset.LICENCE, out)
    recordings = 0
    for one in kind:
        with _bytes_bar(f"{noise.value}_dB_{one.value}.zip") as bar:
            download = dataset.download_of(one.value, int(noise.value), publisher or dataset.PUBLISHER)
            archive = fetch(download, out / DOWNLOADS, bar)
        with _count_bar(f"laying out {one.value}") as count:
            recordings += dataset.lay_out(archive, out, all_channels, count)
    _done(recordings, out, as_json)


@app.command()
def cwru(out: Out = Path("data/cwru"), publisher: Publisher = None, as_json: AsJson = False) -> None:
    """Fetch vibration of a motor bearing with and without faults (CWRU), 40 files, about 130 MB."""
    from examples.datasets import cwru as dataset
    from examples.datasets.download import fetch

    _notice(dataset.LICENCE, out)
    downloads, recordings = out / DOWNLOADS, 0
    with _count_bar("fetching and laying out") as count:
        for done, run in enumerate(dataset.RUNS, 1):
            fetch(
                dataset.download_of(run, publisher or dataset.PUBLISHER),
                downloads / dataset.folder_of(run),
                lambda _have, _total: None,
            )
            recordings += dataset.lay_out(downloads, out, run)
            count(done, len(dataset.RUNS))
    _done(recordings, out, as_json)


def _notice(licence: str, out: Path) -> None:
    """Say whose the recordings are, and leave it beside them."""
    stderr.print(licence)
    out.mkdir(parents=True, exist_ok=True)
    (out / "LICENCE.txt").write_text(licence + "\n", encoding="utf-8")


def _done(recordings: int, out: Path, as_json: bool) -> None:
    if as_json:
        print_json({"recordings": recordings, "out": str(out)})
    else:
        stdout.print(f"{recordings} recordings are in {out}. Next: whirr train --normal {out} --out model.onnx")


@contextmanager
def _bytes_bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr) as progress:
        task = progress.add_task(what, total=None)
        yield lambda have, total: progress.update(task, completed=have, total=total)


@contextmanager
def _count_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=stderr) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def main() -> None:
    """Run the program; deliberate errors end without a traceback."""
    try:
        app()
    except WhirrError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print_error("interrupted; what arrived is kept: run this again to go on")
        sys.exit(130)


if __name__ == "__main__":
    main()
