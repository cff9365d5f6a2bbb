"""Apache Kafka with the rules of ``deploy/kafka/server.properties``: TLS, passwords, and rights for each user."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path
from typing import Any

from schemas.errors import ServiceUnavailable
from tests.services.kafka import KafkaCluster
from tests.services.service import HOST, find_program
from whirr.process import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
USERS = ("admin", "gateway", "worker", "recorder", "learner", "consumer", "operator")
# What the file says of where this broker is, and not of who may do what.
_PLACES = ("listeners", "advertised.listeners", "log.dirs", "node.id", "controller.", "config.providers")


class SecuredKafka(KafkaCluster):
    """One broker that lets in who has a password, over TLS; ``admin`` may do all.

    Attributes:
        passwords: Of each user.
    """

    def __init__(self) -> None:
        super().__init__(1)
        self.passwords = {user: secrets.token_hex(12) for user in USERS}
        self._port = 0

    @property
    def address(self) -> str:
        """Where clients reach it; needs TLS."""
        return f"{HOST}:{self._port}"

    @property
    def ca_file(self) -> Path:
        """The certificate that its own is checked by."""
        assert self._folder is not None
        return self._folder / "tls" / "ca.pem"

    def settings_of(self, user: str) -> dict[str, Any]:
        """Return the settings, by name, with which ``user`` connects."""
        return {
            "kafka_bootstrap_servers": self.address,
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_username": user,
            "kafka_sasl_password": self.passwords[user],
            "kafka_ssl_cafile": self.ca_file,
        }

    def _format_options(self) -> list[str]:
        users = [f"SCRAM-SHA-512=[name={user},password={word}]" for user, word in self.passwords.items()]
        return [part for user in users for part in ("--add-scram", user)]

    def _properties(self, node: int, port: int, controller: int, folder: Path) -> dict[str, object]:
        make_certificates(folder.parent / "tls", HOST)
        self._port = free_port()
        text = (DEPLOY / "kafka" / "server.properties").read_text(encoding="utf-8")
        given = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        rules = {name: value for name, value in given.items() if not name.startswith(_PLACES)}
        clients = f"CLIENTS://{HOST}:{self._port},INTERNAL://{HOST}:{port}"
        return {
            **super()._properties(node, port, controller, folder),
            **rules,
            "listeners": f"{clients},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": clients,
            "ssl.keystore.location": folder.parent / "tls" / "kafka.pem",
        }


def make_certificates(folder: Path, *hosts: str) -> None:
    """Make an authority and a broker's certificate for ``hosts``, as an operator would."""
    find_program("openssl", "openssl")
    script = DEPLOY / "make-certificates.sh"
    done = subprocess.run(["sh", script, folder, *hosts], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ServiceUnavailable(f"{script.name} failed with exit code {done.returncode}:\n{done.stderr}")
