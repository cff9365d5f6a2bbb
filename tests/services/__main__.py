"""Start the real services that the tests talk to, from this machine's own packages.

``python -m tests.services fetch`` gets Apache Kafka's jars (Maven); ``run`` starts Apache Kafka, Redis and
PostgreSQL on free ports, prints the environment in which the tests find them, and stops them at Ctrl-C; with
``run -- COMMAND …`` it runs a command in that environment instead, and ends with its exit code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from commands._output import print_error, stderr, stdout
from schemas.errors import WhirrError
from tests.services import KAFKA_VERSION, KafkaCluster, Postgres, Redis, Service, fetch_kafka

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Apache Kafka, Redis and PostgreSQL for the tests.")


class Kind(StrEnum):
    """Which service."""

    kafka = "kafka"
    redis = "redis"
    postgres = "postgres"


@app.command()
def fetch() -> None:
    """Fetch Apache Kafka's jars into the cache, unless they are there."""
    stdout.print(f"Apache Kafka {KAFKA_VERSION}: {fetch_kafka()}")


@app.command()
def run(
    command: Annotated[
        list[str] | None, typer.Argument(help="Command to run with the services; without, they run until Ctrl-C.")
    ] = None,
    only: Annotated[list[Kind] | None, typer.Option(help="Start this service only; may be repeated.")] = None,
    brokers: Annotated[int, typer.Option(min=1, max=3, help="Nodes of the Kafka cluster.")] = 1,
) -> None:
    """Start the services, then run a command with their addresses in the environment, or wait for Ctrl-C."""
    # SIGTERM must unwind the stack as Ctrl-C does, or the services' files stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    wanted = only or list(Kind)
    if Kind.kafka in wanted:
        fetch_kafka()
    makers = {Kind.kafka: lambda: KafkaCluster(brokers), Kind.redis: Redis, Kind.postgres: Postgres}
    with contextlib.ExitStack() as stack:
        services: list[Service] = [stack.enter_context(makers[kind]()) for kind in wanted]
        environment = {service.variable: service.address for service in services}
        for name, value in environment.items():
            stderr.print(f"export {name}={value}", style="dim")
        if command:
            raise typer.Exit(_run(command, environment))
        stderr.print("Stop them with Ctrl-C.")
        threading.Event().wait()


def _run(command: list[str], environment: Mapping[str, str]) -> int:
    """Run ``command`` to its end, or until a signal ends this program; return its exit code."""
    child = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        return child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


if __name__ == "__main__":
    try:
        app()
    except WhirrError as error:
        print_error(error)
        sys.exit(error.exit_code)
