"""``whirr broker``: a Kafka-compatible broker on this machine, in memory, for trying Whirr out."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from commands._options import AsJson
from commands._output import print_json, print_line
from schemas.errors import ServiceUnavailable
from whirr.broker import EmbeddedBroker
from whirr.settings import EMBEDDED_BOOTSTRAP

_LOOK_S = 0.2


def broker(
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1; 0 takes a free one.")] = 9092,
    as_json: AsJson = False,
) -> None:
    """Run a Kafka-compatible broker in memory until Ctrl-C or SIGTERM; its topics are lost when it stops."""
    asked: list[int] = []  # a handler runs in the midst of anything, so it may take no lock, such as an Event's
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _: asked.append(given))
    with EmbeddedBroker(port) as running:
        environment = {"WHIRR_KAFKA_BOOTSTRAP_SERVERS": running.bootstrap}
        if as_json:
            print_json({"bootstrap": running.bootstrap, "pid": running.pid, "environment": environment})
        else:
            _print_how_to_use(running.bootstrap)
        while not asked:
            code = running.wait(_LOOK_S)
            if code is not None:
                raise ServiceUnavailable(f"the broker ended by itself with exit code {code}")


def _print_how_to_use(bootstrap: str) -> None:
    print_line("A broker for any Kafka client is listening on ", (bootstrap, "bold"), ".")
    print_line("It keeps everything in memory.")
    if bootstrap == EMBEDDED_BOOTSTRAP:
        print_line("Whirr's commands find it there by themselves.")
    else:
        print_line("In other terminals:")
        print_line()
        print_line(f"    export WHIRR_KAFKA_BOOTSTRAP_SERVERS={bootstrap}")
        print_line()
    print_line("Stop it with Ctrl-C; its topics are lost then.")
