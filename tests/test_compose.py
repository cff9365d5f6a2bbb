"""docker-compose.kafka.yml: a valid file, safe by construction, that wires together what the tests run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import COMMANDS, load_command
from tests.helpers import REPOSITORY
from tests.services import KAFKA_VERSION
from tests.services.acls import rights
from tests.services.secured import USERS
from whirr.settings import Settings, load_settings

FILE = REPOSITORY / "docker-compose.kafka.yml"
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
EXAMPLE = dict(
    line.split("=", 1)
    for line in (REPOSITORY / ".env.example").read_text().splitlines()
    if "=" in line and not line.startswith("#")
)
SECRETS = sorted(name for name, value in EXAMPLE.items() if not value)
FILLED = {name: value or "0123456789abcdef0123" for name, value in EXAMPLE.items()}


class Missing(Exception):
    """A variable without which Compose refuses."""


def interpolated(text: str, given: dict[str, str]) -> str:
    """Return the file as Compose reads it."""

    def value(match: re.Match[str]) -> str:
        found = given.get(match["name"], "")
        if found or match["kind"] is None:
            return found
        if match["kind"] == "?":
            raise Missing(match["name"])
        return match["rest"]

    return VARIABLE.sub(value, text)


@pytest.fixture(scope="module")
def text() -> str:
    return interpolated(FILE.read_text(), FILLED)


@pytest.fixture(scope="module")
def services(text: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return found


def test_a_worker_has_room_for_the_models_that_it_may_keep(services: dict[str, dict[str, Any]]) -> None:
    worker = services["worker"]
    limit_mb = 1024 * int(worker["mem_limit"].removesuffix("g"))
    # docs/operations.md: what every worker takes, and a tenth more than its models may have.
    assert limit_mb >= 400 + 1.1 * int(worker["environment"]["WHIRR_MAX_MODEL_MB"])


@pytest.mark.slow
def test_it_follows_the_schema_of_the_compose_specification(text: str, tmp_path: Path) -> None:
    def checked(text: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "compose.yml"
        file.write_text(yaml.safe_dump(yaml.safe_load(text)))  # with anchors and merges resolved
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = checked(text)
    assert done.returncode == 0, done.stdout
    done = checked(text.replace("mem_limit:", "mem_limits:", 1))
    assert done.returncode == 1
    assert "services.kafka: 'mem_limits' does not match" in done.stdout


@pytest.mark.parametrize("secret", SECRETS)
def test_it_refuses_to_start_without_a_secret(secret: str) -> None:
    with pytest.raises(Missing, match=secret):
        interpolated(FILE.read_text(), {**FILLED, secret: ""})


def test_no_secret_has_a_value_in_the_files() -> None:
    words = VARIABLE.sub("", FILE.read_text())
    assert not re.search(r"(?i)password: *[\"']?[\w]", words)
    assert {name for name in EXAMPLE if "PASSWORD" in name} <= set(SECRETS)
    assert {match["name"] for match in VARIABLE.finditer(FILE.read_text())} - set(EXAMPLE) == {"MLFLOW_PORT"}


def test_every_service_is_confined(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), f"{name} runs as a user that is not root"
        assert service["mem_limit"], name
        assert "container_name" not in service, name
        assert "privileged" not in service, name
        assert not re.search(r":latest$|^[^:]+$", service["image"]), f"{name}: {service['image']} is not pinned"
        for port in service.get("ports", ()):
            assert re.match(r"127\.0\.0\.1:", port), f"{name} is open to everyone: {port}"
    assert "ports" not in services["worker"], "a fixed port would allow one worker only"


def test_every_service_starts_after_what_it_needs_is_healthy(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        one_time = service["restart"] == "on-failure"
        assert service["restart"] in ("unless-stopped", "on-failure"), name
        assert one_time or "healthcheck" in service or name in ("edge", "recorder"), name
        for needed, how in service.get("depends_on", {}).items():
            ends = services[needed]["restart"] == "on-failure"
            expected = "service_completed_successfully" if ends else "service_healthy"
            assert how["condition"] == expected, f"{name} -> {needed}"
            assert ends or "healthcheck" in services[needed], needed
    assert services["worker"]["restart"] == "unless-stopped", "a worker whose commits stop exits, to be started again"
    assert {"topics", "rights", "mlflow"} <= set(services["worker"]["depends_on"])


def test_it_runs_commands_and_settings_that_there_are(services: dict[str, dict[str, Any]]) -> None:
    known = {f"WHIRR_{name.upper()}" for name in Settings.model_fields}
    for name, service in services.items():
        if not service["image"].startswith("whirr:"):
            continue
        first, *rest = service["command"]
        assert first in COMMANDS, f"{name}: {first}"
        command = load_command(first)
        parts = getattr(command, "commands", None)
        command = command if parts is None else parts[rest[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, name
        used = {variable for variable in service["environment"] if variable.startswith("WHIRR_")}
        assert used <= known, f"{name}: {used - known}"


def test_the_worker_and_the_gateway_can_be_configured_so(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    for name, user in (("worker", "worker"), ("recorder", "recorder"), ("edge", "gateway"), ("topics", "admin")):
        given = {
            variable.removeprefix("WHIRR_").lower(): value
            for variable, value in services[name]["environment"].items()
            if variable.startswith("WHIRR_")
        }
        if "route" in given:
            given["route"] = json.loads(given["route"])
        settings = load_settings(**given)
        assert (settings.kafka_sasl_username, settings.kafka_security_protocol) == (user, "SASL_SSL")
        assert not settings.embedded


def test_it_is_the_topology_that_the_tests_run(services: dict[str, dict[str, Any]]) -> None:
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    started = (REPOSITORY / "deploy" / "kafka" / "start.sh").read_text()
    assert tuple(re.findall(r"scram (\w+) ", started)) == tuple(sorted(USERS, key=started.index))
    assert {right.principal.removeprefix("User:") for right in rights()} < set(USERS)
    assert services["topics"]["command"] == ["topics", "create"]
    assert set(services) == {
        "kafka", "rights", "topics", "features", "redis", "postgres", "mlflow", "worker", "recorder", "edge"
    }  # fmt: skip
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            if source.startswith("./deploy") and "tls" not in source:
                assert (REPOSITORY / source).exists()


def test_the_dockerfile_is_clean() -> None:
    program = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip("hadolint is not installed for this platform")
    done = subprocess.run([program, REPOSITORY / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_from_what_there_is_and_runs_as_nobody() -> None:
    lines = (REPOSITORY / "deploy" / "Dockerfile").read_text().splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    for name in copied:
        assert (REPOSITORY / name).exists(), name
    last = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert [line for line in last if line.startswith("USER ")] == ["USER 10001"]
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in ignored, "what is not named stays out: .env, certificates, models"


@pytest.mark.parametrize("script", sorted((REPOSITORY / "deploy").rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
