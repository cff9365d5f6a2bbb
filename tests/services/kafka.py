"""Apache Kafka in KRaft mode from its published jars: one broker, or three that replicate each other."""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from schemas.errors import ServiceUnavailable
from tests.services.jars import kafka_jars
from tests.services.service import HOST, Child, Service, find_program, temporary_folder
from whirr.process import free_port

# Metadata, version 1, correlation id 1, client id "whirr", no topics: the answer lists the brokers that are up.
_METADATA = struct.pack(">hhih", 3, 1, 1, 5) + b"whirr" + struct.pack(">i", 0)


class KafkaBroker:
    """One node: broker and controller in one process. It can be stopped, killed and started again on its files.

    Attributes:
        node: Its id, from 1.
        port: Where clients reach it.
        link_port: Where a proxy reaches it whose own port it advertises there; 0 without one.
    """

    def __init__(self, node: int, port: int, folder: Path, jars: Path, link_port: int = 0) -> None:
        self.node = node
        self.port = port
        self.link_port = link_port
        self._child = Child(f"Apache Kafka (node {node})", folder)
        self._jars = jars
        self._properties = folder / "server.properties"

    @property
    def address(self) -> str:
        """Its own address; the cluster's names all of them."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id; ServiceUnavailable when it does not run."""
        return self._child.pid

    def format(self, properties: Mapping[str, object], cluster_id: str, more: Sequence[str] = ()) -> None:
        """Write its settings and format its storage, with ``more`` options of Kafka's own program for that."""
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        storage: list[str | Path] = [
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",
            "-c",
            self._properties,
            *more,
        ]
        done = subprocess.run([*self._java("128m"), *storage], check=False, capture_output=True, text=True)
        if done.returncode:
            raise ServiceUnavailable(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")

    def start(self) -> None:
        """Start it; see :meth:`wait` for when it is ready."""
        self._child.start([*self._java("256m"), "kafka.Kafka", self._properties])

    def wait(self, brokers: int = 1) -> None:
        """Return once it sees ``brokers`` brokers, itself included."""
        self._child.wait(lambda: _brokers_seen(self.port) >= brokers)

    def stop(self) -> None:
        """Stop it as an operator would; its files stay."""
        self._child.stop()

    def kill(self) -> None:
        """Stop it as a power cut would; its files stay."""
        self._child.stop(first=signal.SIGKILL)

    def _java(self, heap: str) -> list[str | Path]:
        java = find_program("java", "openjdk-17-jre-headless")
        # Three of them share two cores with what is tested: quick to start and modest, not fast.
        frugal = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        options: list[str | Path] = [f"-Xmx{heap}", *frugal, "-Djava.awt.headless=true"]
        return [java, *options, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{self._jars}/*"]


class KafkaCluster(Service):
    """A cluster on free ports. Topics are never made by themselves, as in most of production.

    Args:
        brokers: 1, or 3 with replication factor 3 for the internal topics; with 3 a write needs 2 replicas in sync.
        port: Where clients reach the first node; default: a free port.
        links: Ports of proxies, one a node. Each node then has a second listener that advertises its proxy's port, so
            that a client that comes by a proxy stays behind it: a client goes on to the address that is advertised.

    Attributes:
        brokers: The nodes, once started.
    """

    variable: ClassVar[str] = "WHIRR_TEST_KAFKA_BOOTSTRAP"

    def __init__(self, brokers: int = 1, *, port: int = 0, links: Sequence[int] = ()) -> None:
        self._size = brokers
        self._port = port
        self._links = tuple(links)
        self._folder: Path | None = None
        self.brokers: list[KafkaBroker] = []

    @property
    def address(self) -> str:
        """The addresses of all brokers, as a client's ``bootstrap_servers``."""
        return ",".join(broker.address for broker in self.brokers)

    @property
    def bootstrap(self) -> str:
        """The same as :attr:`address`."""
        return self.address

    def start(self) -> None:
        """Format and start the nodes, and return when they see each other."""
        jars = kafka_jars()
        self._folder = temporary_folder("kafka")
        ports = [(free_port(), free_port()) for _ in range(self._size)]
        ports[0] = (self._port or ports[0][0], ports[0][1])
        voters = ",".join(f"{node}@{HOST}:{controller}" for node, (_, controller) in enumerate(ports, 1))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formats: list[tuple[KafkaBroker, Mapping[str, object]]] = []
        for node, (port, controller) in enumerate(ports, 1):
            folder = self._folder / f"node-{node}"
            folder.mkdir()
            broker = KafkaBroker(node, port, folder, jars, free_port() if self._links else 0)
            properties = self._properties(node, port, controller, folder) | {_VOTERS: voters}
            if self._links:
                properties = _with_link(properties, broker.link_port, self._links[node - 1])
            self.brokers.append(broker)
            formats.append((broker, properties))
        # Each takes seconds of a Java machine's start.
        with ThreadPoolExecutor(self._size) as threads:
            list(threads.map(lambda made: made[0].format(made[1], cluster_id, self._format_options()), formats))
        for broker in self.brokers:
            broker.start()
        for broker in self.brokers:
            broker.wait(self._size)

    def stop(self) -> None:
        """Stop all nodes and remove their files."""
        # Without a quorum a node that is asked politely waits for one in vain.
        for broker in self.brokers:
            broker.kill()
        self.brokers = []
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _format_options(self) -> list[str]:
        return []

    def _properties(self, node: int, port: int, controller: int, folder: Path) -> dict[str, object]:
        replicas = min(3, self._size)
        in_sync = max(1, replicas - 1)
        return {
            "process.roles": "broker,controller",
            "node.id": node,
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": folder / "data",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "min.insync.replicas": in_sync,
        }


_VOTERS = "controller.quorum.voters"


def _with_link(properties: Mapping[str, object], port: int, advertised: int) -> dict[str, object]:
    """Return a node's properties with a listener on ``port`` that sends clients on to ``advertised``."""
    added = {
        "listeners": f"LINK://{HOST}:{port}",
        "advertised.listeners": f"LINK://{HOST}:{advertised}",
        "listener.security.protocol.map": "LINK:PLAINTEXT",
    }
    return {**properties, **{name: f"{properties[name]},{more}" for name, more in added.items()}}


def _brokers_seen(port: int) -> int:
    """Return how many brokers the one on ``port`` says are up; 0 if it does not answer."""
    with contextlib.suppress(OSError, struct.error), socket.create_connection((HOST, port), timeout=2.0) as connection:
        connection.settimeout(2.0)
        connection.sendall(struct.pack(">i", len(_METADATA)) + _METADATA)
        answer = connection.recv(12, socket.MSG_WAITALL)
        size_bytes, _correlation, brokers = struct.unpack(">iii", answer)
        return int(brokers) if size_bytes >= 8 else 0
    return 0
