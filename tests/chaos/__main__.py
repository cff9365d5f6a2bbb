"""``python -m tests.chaos``: stream a plant through real brokers while things fail, and compare with the oracle."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import typer

from commands._output import marked, print_error, print_json
from schemas.errors import WhirrError
from tests.chaos.chaos_run import ChaosConfig, run
from tests.chaos.comparison import table
from whirr.outputs import make_anew

OUT = Path("chaos-out")
SHOWN_FAILURES = 20


def chaos(
    seed: Annotated[int | None, typer.Option(min=0, help="Of the plant and the faults; default: by chance.")] = None,
    short: Annotated[bool, typer.Option("--short", help="Each fault once, 2,000 frames of 20 machines.")] = False,
    frames: Annotated[int | None, typer.Option(min=100, help="Of all machines together; default: 20,000.")] = None,
    machines: Annotated[int | None, typer.Option(min=2, max=500, help="Default: 50.")] = None,
    workers: Annotated[int, typer.Option(min=2, max=8)] = 3,
    brokers: Annotated[int, typer.Option(min=1, max=3, help="1, or 3 that replicate each other.")] = 3,
    rate: Annotated[float, typer.Option(min=1, help="Frames a second, of all machines together.")] = 40.0,
    times: Annotated[int | None, typer.Option(min=1, help="How often each fault comes; default: 2.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for recordings and logs; made anew.")] = OUT,
) -> None:
    """Kill, pause and cut off whatever can be while frames flow; print what was lost, which must be nothing."""
    config = ChaosConfig(
        seed=SystemRandom().randrange(10**6) if seed is None else seed,
        frames=frames or (2_000 if short else 20_000),
        machines=machines or (20 if short else 50),
        workers=workers,
        brokers=brokers,
        rate=rate,
        times=times or (1 if short else 2),
        out=make_anew(out, "chaos").resolve(),
    )
    result = run(config)
    marked.print()
    marked.print(table(result))
    for line in result.remarks():
        marked.print(line, highlight=False)
    for line in result.failures[:SHOWN_FAILURES]:
        marked.print(f"[red]{line}[/]", highlight=False, soft_wrap=True)
    if len(result.failures) > SHOWN_FAILURES:
        marked.print(f"[red]… and {len(result.failures) - SHOWN_FAILURES} more[/]")
    print_json(result.as_dict())
    if result.failures:
        raise typer.Exit(1)


def main() -> None:
    """Run it; SIGTERM ends it as Ctrl-C does, so that every process is stopped."""
    # Its clients lose their brokers all the time, and say so.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        typer.run(chaos)
    except WhirrError as error:
        print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
