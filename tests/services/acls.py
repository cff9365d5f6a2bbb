"""The rights in ``deploy/kafka/acls.sh``, given to a broker without Kafka's own program, which its main jars lack."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from schemas.errors import ServiceUnavailable

ACLS_FILE = Path(__file__).resolve().parents[2] / "deploy" / "kafka" / "acls.sh"
# Kafka's numbers, from its protocol.
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "IdempotentWrite": 12}
_RESOURCES = {"topic": 2, "group": 3}
_LITERAL, _ALLOW, _ANY_HOST = 3, 3, "*"


class Right(NamedTuple):
    """One right: who may do what with what."""

    principal: str
    operation: str
    kind: str
    name: str


def rights(script: Path = ACLS_FILE) -> Iterator[Right]:
    """Yield the rights that a script of ``acls`` lines gives."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True)
    for kind in _RESOURCES:
        parser.add_argument(f"--{kind}", action="append", default=[])
    for line in script.read_text(encoding="utf-8").splitlines():
        if not line.startswith("acls --"):
            continue
        given = parser.parse_args(shlex.split(line)[1:])
        for operation, kind in product(given.operation, _RESOURCES):
            for name in getattr(given, kind):
                yield Right(given.allow_principal, operation, kind, name)


async def grant(admin: AIOKafkaAdminClient) -> None:
    """Give everyone the rights of the file.

    Raises:
        ServiceUnavailable: Kafka refuses one.
    """
    for right in rights():
        resource = (_RESOURCES[right.kind], right.name, _LITERAL)
        request = CreateAclsRequest(*resource, right.principal, _ANY_HOST, _OPERATIONS[right.operation], _ALLOW)
        response = await admin._send_to_controller(request)
        for code, reason in response.creation_responses:
            if code:
                raise ServiceUnavailable(f"Kafka does not give {right}: {reason or code}")
