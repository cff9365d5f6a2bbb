"""``whirr feast``: the feature store's definitions, its contents and how fresh they are."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from commands._options import AsJson, MachinePattern, Since, StoreYaml
from commands._output import cell, print_json, print_line, print_warning, stdout, working
from schemas.errors import FeatureStoreError
from whirr.counts import counted
from whirr.durations import as_duration, duration_s
from whirr.settings import Settings, load_settings

if TYPE_CHECKING:
    from feature_repo.freshness import MachineFreshness, StoreStatus

SILENT = 1
_SHOWN = 20
_STYLES = {"fresh": "green", "silent": "bold red", "gone": "dim"}

app = typer.Typer(
    name="feast",
    no_args_is_help=True,
    add_completion=False,
    help="Apply the feature store's definitions, fill it from history, and say how fresh it is.",
)


@app.command("apply")
def apply_command(yaml: StoreYaml = None, as_json: AsJson = False) -> None:
    """Write the definitions (entity, push source, views, services) to the store's registry; repeating it does no harm.

    The same as `feast apply` of the stock client. Exit code 2: a definition or the YAML file can't be
    used; 3: the store can't be reached.
    """
    from feature_repo.store import open_store, repo_folder

    settings = _settings(yaml)
    with working("opening the feature store", quiet=as_json):
        store = open_store(settings, applied=False)
    repo = repo_folder(settings)
    if not any(repo.glob("*.py")):
        raise FeatureStoreError(f"{repo} holds no definitions; expected a Feast repository, such as feature_repo")
    with store.errors(), contextlib.redirect_stdout(io.StringIO()):
        from feast.repo_operations import _get_repo_contents, apply_total_with_repo_instance

        # Not by its apply_total, which would keep the store's files beside the definitions.
        feast, project = store.feast, store.feast.config.project
        with _importable(repo):
            definitions = _get_repo_contents(repo, project, feast.config)
        apply_total_with_repo_instance(feast, project, feast.registry, definitions, skip_source_validation=True)
        store.feast.refresh_registry()
        views = sorted(view.name for view in store.feast.list_feature_views())
        services = sorted(service.name for service in store.feast.list_feature_services())
    if as_json:
        print_json({"store": store.shown, "repo": str(repo), "views": views, "services": services})
        return
    print_line(f"applied    {repo} to the {store.shown}")
    print_line(f"views      {', '.join(views)}")
    print_line(f"services   {', '.join(services)}")


@app.command("materialize")
def materialize_command(
    since: Since = None,
    machine: MachinePattern = "*",
    yaml: StoreYaml = None,
    as_json: AsJson = False,
) -> None:
    """Fill the online store with each machine's newest row of the history, where it holds none or an older one.

    Unlike `feast materialize` it never overwrites what is newer. Exit code 3: the store can't be reached.
    """
    from feature_repo.history import History
    from feature_repo.materialize import materialize
    from feature_repo.push.online import OnlineStore
    from feature_repo.store import history_folder
    from whirr.alert_reader import parse_since

    settings = _settings(yaml)
    start = None
    if since is not None:
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=parse_since(since, time.time_ns() // 1000))
    history = History(history_folder(settings))
    with working("opening the feature store", quiet=as_json):
        store = OnlineStore.open(settings)
    done = materialize(store, history, start=start, match=machine)
    if as_json:
        print_json({"store": store.shown, "history": str(history.folder), "found": done.found, "written": done.written})
        return
    print_line(f"history    {history.folder}: {_machines(done.found)} in the period")
    left = f"; of {done.found - done.written} it holds the same or newer" if done.written < done.found else ""
    print_line(f"written    {_machines(done.written)} to the {store.shown}{left}")
    if not done.found:
        print_warning("the history holds nothing to write; a worker or `whirr features --to-feast` fills it")


@app.command("status")
def status_command(
    machine: MachinePattern = "*",
    silent_after: Annotated[
        str | None,
        typer.Option(help="No frame for so long is silence (30s, 10m, 2h); default: as the machine's route says."),
    ] = None,
    gone_after: Annotated[
        str, typer.Option(help="No frame for so long, and the machine is no more waited for.")
    ] = "30d",
    yaml: StoreYaml = None,
    as_json: AsJson = False,
) -> None:
    """Say how fresh each machine's features are, by view, and name the machines that have gone silent.

    Exit code 0: all are fresh; 1: a machine is silent; 2: the definitions have not been applied; 3: the store can't be
    reached. Machines that are gone count for nothing.
    """
    from feature_repo.client import FeatureClient
    from feature_repo.freshness import store_status

    silent_s = None if silent_after is None else duration_s(silent_after, "--silent-after")
    gone_s = duration_s(gone_after, "--gone-after")
    settings = _settings(yaml)
    with working("opening the feature store", quiet=as_json):
        opened = FeatureClient(settings)
    with opened as client:
        status = store_status(client, settings, datetime.now(UTC), machine, silent_s, gone_s)
    if as_json:
        print_json(
            {
                "store": status.store,
                "at": status.at,
                "silent": status.named("silent"),
                "gone": status.named("gone"),
                "machines": status.machines,
                "history": {"folder": status.history, "days": status.history_days[0], "first": status.history_days[1]},
            }
        )
    else:
        _print_status(status)
    if status.named("silent"):
        raise typer.Exit(SILENT)


@contextlib.contextmanager
def _importable(repo: Path) -> Iterator[None]:
    """Let Feast import a repository's modules by their bare names, as its own command line does."""
    before = set(sys.modules)
    sys.path.insert(0, str(repo))
    try:
        with contextlib.chdir(repo):
            yield
    finally:
        sys.path.remove(str(repo))
        for name in set(sys.modules) - before:
            if name in {path.stem for path in repo.glob("*.py")}:
                del sys.modules[name]


def _settings(yaml: Path | None) -> Settings:
    return load_settings(feature_store_yaml=yaml)


def _print_status(status: StoreStatus) -> None:
    count, first, last = status.history_days
    print_line(f"store      {status.store}")
    print_line(f"history    {status.history}: " + (f"{count} days, {first} to {last}" if count else "empty"))
    if not status.machines:
        print_line("machines   none yet: a worker writes them, or `whirr feast materialize` from history")
        return
    counts = {presence: len(status.named(presence)) for presence in ("fresh", "silent", "gone")}
    print_line("machines   " + ", ".join(f"{number} {word}" for word, number in counts.items() if number))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("machine", "presence", *next(iter(status.machines)).views):
        table.add_column(name)
    ranked = sorted(status.machines, key=lambda one: (("silent", "fresh", "gone").index(one.presence), one.machine_id))
    for one in ranked[:_SHOWN]:
        table.add_row(cell(one.machine_id), Text(one.presence, _STYLES[one.presence]), *_ages(one))
    stdout.print(table)
    if len(ranked) > _SHOWN:
        print_line(f"… and {len(ranked) - _SHOWN} more; --json has all", style="dim")


def _ages(one: MachineFreshness) -> list[str]:
    return ["nothing" if view.age_s is None else f"{as_duration(round(view.age_s))} ago" for view in one.views.values()]


def _machines(count: int) -> str:
    return counted(count, "machine")
