"""TLS, passwords and rights, on a real broker: each user can do its own work and nothing else, and is told so."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

import archive
from schemas import FrameRecord
from tests.conftest import unavailable
from tests.helpers import REPOSITORY, eventually_async, run_whirr
from tests.models import course, tiny_model
from tests.services import NotInstalled, SecuredKafka
from tests.services.acls import ACLS_FILE, grant, rights
from tests.services.secured import make_certificates
from tests.stream_app.worker.fakes import ENCODER, alert_of
from tests.stream_app.worker.worker_process import WorkerProcess, environment
from whirr.kafka_clients import client_options
from whirr.settings import Route, Settings, load_settings, verdict_log_topic
from whirr.topic_reader import read_topic
from whirr.topics import admin_client, create_topics, topic_specs

pytestmark = [pytest.mark.real_services, pytest.mark.xdist_group("secured")]
PARTITIONS = 2


@dataclass(frozen=True)
class Plant:
    """A secured broker with Whirr's topics and the rights of ``deploy/kafka/acls.sh``."""

    kafka: SecuredKafka

    def settings(self, user: str, **overrides: Any) -> Settings:
        return load_settings(**{**self.kafka.settings_of(user), "topic_partitions": PARTITIONS, **overrides})

    def env(self, user: str, **overrides: Any) -> dict[str, str]:
        return environment(self.settings(user, **overrides))

    def secrets_in(self, text: str) -> list[str]:
        return [user for user, password in self.kafka.passwords.items() if password in text]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    kafka = SecuredKafka()
    try:
        kafka.start()
    except NotInstalled as error:
        kafka.stop()
        unavailable(str(error))
    try:
        plant = Plant(kafka)
        admin = plant.settings("admin")

        async def prepare() -> None:
            async with admin_client(admin) as client:
                await create_topics(client, admin)
                await grant(client)

        asyncio.run(prepare())
        yield plant
    finally:
        kafka.stop()


def refused(done: subprocess.CompletedProcess[str], plant: Plant, *words: str) -> None:
    """Check that a command was refused in one clear line."""
    said = done.stdout + done.stderr
    assert done.returncode == 5, said
    assert "Traceback" not in said
    for word in words:
        assert word in done.stderr
    assert plant.secrets_in(said) == []


def edge(plant: Plant, user: str, **overrides: Any) -> subprocess.CompletedProcess[str]:
    options = ("--simulate", "fan-1", "--speed", "max", "--seconds", "10", "--json")
    return run_whirr("edge", *options, env=plant.env(user, **overrides))


@pytest.mark.slow
async def test_each_does_its_own_work_and_the_whole_path_works(plant: Plant, tmp_path: Path) -> None:
    route = Route(match="pump-*", model=str(tiny_model(tmp_path / "tiny.onnx")))
    settings = plant.settings("worker", route=(route,), worker_dir=tmp_path / "worker", log_level="debug")
    frames = course([1.0] * 6 + [40.0] * 6, "pump-1", "mic")
    gateway = AIOKafkaProducer(acks="all", enable_idempotence=True, **client_options(plant.settings("gateway")))
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        assert worker.readiness()["verdicts"] == "following"
        async with gateway:
            for frame in frames:
                await gateway.send_and_wait(
                    settings.frames_topic, frame.value, key=frame.key, headers=list(frame.headers)
                )
        sent = edge(plant, "gateway")
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)["frames_sent"] == 10
        # The agent's frames fit no route: the worker writes to the dead letters too.
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="dead_letter") == 10, 60)
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") == len(frames), 60)
        await eventually_async(lambda: worker.readiness().get("commit_age_s") == 0, 30)
        assert worker.stop() == 0, worker.log
        assert plant.secrets_in(worker.log) == []
        assert "worker" in worker.log
    read = run_whirr("alerts", "--json", env=plant.env("consumer"))
    assert read.returncode == 0, read.stderr
    states = [json.loads(line)["state"] for line in read.stdout.splitlines()]
    assert states[0] == "opened"
    async with admin_client(plant.settings("admin")) as admin:
        made = {name for name in await admin.list_topics() if not name.startswith("__")}
    assert made == {spec.name for spec in topic_specs(settings)}, "Faust made none of its own"


@pytest.mark.slow
async def test_a_gateway_can_read_nothing_and_write_nothing_else(plant: Plant) -> None:
    refused(run_whirr("alerts", env=plant.env("gateway")), plant, "user 'gateway'", "see topic 'anomalies'")
    settings = plant.settings("gateway")
    assert isinstance(await write_error(settings, settings.alerts_topic), TopicAuthorizationFailedError)
    assert isinstance(await read_error(settings, settings.frames_topic), TopicAuthorizationFailedError)
    assert isinstance(await read_error(settings, settings.frames_topic, "mine"), GroupAuthorizationFailedError)


@pytest.mark.slow
async def test_a_consumer_reads_alerts_only_and_writes_nothing(plant: Plant) -> None:
    refused(edge(plant, "consumer"), plant, "user 'consumer'", "write topic 'vibration-frames'")
    settings = plant.settings("consumer")
    for topic in (settings.frames_topic, settings.scores_topic, settings.dead_letter_topic):
        assert isinstance(await read_error(settings, topic), TopicAuthorizationFailedError)
    assert isinstance(await write_error(settings, settings.alerts_topic), TopicAuthorizationFailedError)


@pytest.mark.slow
async def test_an_operator_gives_verdicts_and_nobody_else(plant: Plant, tmp_path: Path) -> None:
    alert = alert_of("pump-7", None, f"{7:032x}", "machine::opened")
    message, topic = ENCODER.alert(alert), plant.settings("worker").alerts_topic
    async with AIOKafkaProducer(acks="all", **client_options(plant.settings("worker"))) as worker:
        await worker.send_and_wait(topic, message.value, key=message.key, headers=list(message.headers))
    said = ("verdict", alert.incident_id, "confirmed", "--by", "ana")
    done = run_whirr(*said, env=plant.env("operator"))
    assert done.returncode == 0, done.stderr
    listed = run_whirr("verdicts", "--all", "--json", env=plant.env("operator"))
    assert json.loads(listed.stdout)["by"] == "ana"
    # Who may not see verdicts must not take it for none: a fault would be labelled by nobody.
    labels = tmp_path / "labels.csv"
    refused(run_whirr("verdicts", "--labels", str(labels), env=plant.env("consumer")), plant, "see topic 'verdicts'")
    assert not labels.exists()
    refused(run_whirr(*said, env=plant.env("consumer")), plant, "user 'consumer'", "see topic 'verdicts'")
    for user in ("gateway", "worker", "consumer"):
        settings = plant.settings(user)
        for name in (settings.verdicts_topic, verdict_log_topic(settings.verdicts_topic)):
            assert isinstance(await write_error(settings, name), TopicAuthorizationFailedError), (user, name)
    log = verdict_log_topic(settings.verdicts_topic)
    assert isinstance(await read_error(plant.settings("worker"), log), TopicAuthorizationFailedError)


@pytest.mark.slow
async def test_an_operator_sends_dead_letters_again_once_and_nobody_else_sees_them(plant: Plant) -> None:
    settings = plant.settings("worker")
    frame = course([1.0], "pump-8", "mic")[0]
    about = {"whirr_error": "no_route", "whirr_topic": settings.frames_topic, "whirr_partition": "0"}
    headers = [*frame.headers, *((name, text.encode()) for name, text in about.items())]
    async with AIOKafkaProducer(acks="all", **client_options(settings)) as worker:
        await worker.send_and_wait(settings.dead_letter_topic, frame.value, key=frame.key, headers=headers)
    replay = ("dlq", "replay", "--machine", "pump-8", "--yes", "--json")
    for sent, before in ((1, 0), (0, 1)):
        done = run_whirr(*replay, env=plant.env("operator"))
        assert done.returncode == 0, done.stderr
        counts = json.loads(done.stdout)
        assert (counts["sent"], counts["replayed_before"]) == (sent, before)
    hidden = f"see topic {settings.dead_letter_topic!r}"
    for command in (("dlq", "list"), ("dlq", "show", "0:0"), replay):
        refused(run_whirr(*command, env=plant.env("consumer")), plant, "user 'consumer'", hidden)


async def test_a_learner_reads_what_is_said_and_tells_of_drifts_and_nothing_else(plant: Plant) -> None:
    settings = plant.settings("learner")
    for name in (settings.scores_topic, settings.alerts_topic, settings.verdicts_topic):
        [one async for one in read_topic(settings, name, hidden_ok=False)]  # or it would be refused
    assert await write_error(settings, settings.alerts_topic) is None
    for name in (settings.scores_topic, settings.verdicts_topic, settings.frames_topic):
        assert isinstance(await write_error(settings, name), TopicAuthorizationFailedError), name
    assert isinstance(await read_error(settings, settings.frames_topic), TopicAuthorizationFailedError)


@pytest.mark.slow
async def test_a_recorder_reads_frames_and_nothing_else(plant: Plant, tmp_path: Path) -> None:
    kept, following = tmp_path / "kept", ("record", "--follow", "--json", "--machine", "fan-7", "--out")
    await publish(plant, course([1.0] * 4, "fan-7", "mic"))
    command, env = [sys.executable, "-m", "commands", *following, str(kept)], plant.env("recorder")
    program = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        await eventually_async(lambda: len(list(kept.glob("fan-7/mic/*/*"))) == 4, 60)
    finally:
        program.terminate()
        out, said = await asyncio.to_thread(program.communicate, timeout=60)
    assert program.returncode == 0, said
    assert json.loads(out)["machines"] == {"fan-7": 4}
    assert len(archive.open(str(kept)).entries("fan-7")) == 4
    assert plant.secrets_in(out + said) == []
    refused(run_whirr(*following, str(kept), env=plant.env("consumer")), plant, "user 'consumer'", "'whirr-recorder'")
    settings = plant.settings("recorder")
    assert isinstance(await write_error(settings, settings.frames_topic), TopicAuthorizationFailedError)
    assert isinstance(await read_error(settings, settings.alerts_topic), TopicAuthorizationFailedError)
    assert isinstance(await read_error(settings, settings.frames_topic, "whirr-worker"), GroupAuthorizationFailedError)


async def test_a_worker_cannot_write_frames_nor_read_alerts(plant: Plant) -> None:
    settings = plant.settings("worker")
    assert isinstance(await write_error(settings, settings.frames_topic), TopicAuthorizationFailedError)
    assert isinstance(await read_error(settings, settings.alerts_topic), TopicAuthorizationFailedError)


@pytest.mark.slow
def test_a_worker_without_the_rights_says_which(plant: Plant, tmp_path: Path) -> None:
    route = Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")))
    for user, words in (
        ("consumer", ("user 'consumer'", "create topic 'vibration-frames', which is missing or hidden")),
        ("worker", ("user 'worker'", "group 'another-group'")),
    ):
        names = {"worker_id": "another-group"} if user == "worker" else {}
        settings = plant.settings(user, route=(route,), worker_dir=tmp_path / user, **names)
        if user == "worker":
            make_topic(plant, settings)
        with WorkerProcess(settings, tmp_path) as worker:
            assert worker.wait(60) == 5, worker.log
            for word in words:
                assert word in worker.log
            assert "Traceback" not in worker.log
            assert plant.secrets_in(worker.log) == []


def make_topic(plant: Plant, settings: Settings) -> None:
    """Make the changelog of another worker, and let the worker use it: only the group is missing then."""
    admin = plant.settings("admin", worker_id=settings.worker_id)

    async def make() -> None:
        async with admin_client(admin) as client:
            await create_topics(client, admin)
            name = topic_specs(settings)[-1].name
            await client._send_to_controller(CreateAclsRequest(2, name, 3, "User:worker", "*", 2, 3))

    asyncio.run(make())


@pytest.mark.slow
async def test_a_worker_whose_commits_are_refused_exits_and_another_goes_on(plant: Plant, tmp_path: Path) -> None:
    route = Route(match="*", model=str(tiny_model(tmp_path / "tiny.onnx")))
    options = {"route": (route,), "worker_dir": tmp_path / "worker", "commit_stall_s": 6.0, "compute_timeout_s": 2.0}
    settings = plant.settings("worker", **options)
    frames = course([1.0] * 8, "pump-9", "mic")
    with WorkerProcess(settings, tmp_path) as worker:
        worker.wait_until_ready()
        await publish(plant, frames[:4])
        await eventually_async(lambda: worker.metric("whirr_frames_total", outcome="scored") >= 4, 60)
        await eventually_async(lambda: worker.readiness().get("commit_age_s") == 0, 30)
        await in_group(plant, DeleteAclsRequest)
        await publish(plant, frames[4:])
        assert await asyncio.to_thread(worker.wait, 60) == 5, worker.log
        assert "user 'worker' use group 'whirr-worker'" in worker.log
        assert plant.secrets_in(worker.log) == []
    await in_group(plant, CreateAclsRequest)
    with WorkerProcess(settings, tmp_path) as worker:  # as a supervisor would
        worker.wait_until_ready()
        await eventually_async(lambda: committed_all(plant, settings), 60, "what was not committed comes again")
        assert worker.stop() == 0, worker.log


async def publish(plant: Plant, frames: list[FrameRecord]) -> None:
    settings = plant.settings("gateway")
    async with AIOKafkaProducer(**client_options(settings)) as gateway:
        for frame in frames:
            await gateway.send_and_wait(settings.frames_topic, frame.value, key=frame.key, headers=list(frame.headers))


async def in_group(plant: Plant, request: type[CreateAclsRequest] | type[DeleteAclsRequest]) -> None:
    """Give or take the worker's right to its group."""
    async with admin_client(plant.settings("admin")) as admin:
        await admin._send_to_controller(request(3, "whirr-worker", 3, "User:worker", "*", 3, 3))


async def committed_all(plant: Plant, settings: Settings) -> bool:
    """Whether the group has committed the end of each partition of the frames topic that has any frame."""
    reader = AIOKafkaConsumer(**client_options(plant.settings("admin")))
    async with admin_client(plant.settings("admin")) as admin, reader:
        places = [TopicPartition(settings.frames_topic, number) for number in range(PARTITIONS)]
        ends = await reader.end_offsets(places)
        done = await admin.list_consumer_group_offsets(settings.worker_id)
        return all(place in done and done[place].offset == end for place, end in ends.items() if end)


@pytest.mark.slow
def test_a_wrong_password_is_told_from_a_broker_that_is_away(plant: Plant) -> None:
    wrong = "not-the-password"
    for done in (
        edge(plant, "gateway", kafka_sasl_password=wrong),
        run_whirr("alerts", "--follow", env=plant.env("consumer", kafka_sasl_password=wrong)),
        run_whirr("topics", "check", env=plant.env("worker", kafka_sasl_password=wrong)),
    ):
        refused(done, plant, "unknown user or wrong password", plant.kafka.address)
        assert wrong not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_broker_that_another_authority_vouches_for_is_not_trusted(plant: Plant, tmp_path: Path) -> None:
    make_certificates(tmp_path / "tls", "127.0.0.1")
    other = tmp_path / "tls" / "ca.pem"
    for done in (
        edge(plant, "gateway", kafka_ssl_cafile=other),
        run_whirr("alerts", "--follow", env=plant.env("consumer", kafka_ssl_cafile=other)),
    ):
        refused(done, plant, "certificate", str(other))


def test_a_client_in_clear_is_told_that_kafka_may_want_tls(plant: Plant) -> None:
    done = run_whirr("topics", "check", "--bootstrap", plant.kafka.address)
    assert done.returncode == 3
    assert "does this Kafka want TLS?" in done.stderr


@pytest.mark.slow
async def test_a_certificate_for_another_host_is_refused_unless_told_otherwise(plant: Plant) -> None:
    port = plant.kafka.address.rpartition(":")[2]
    named = {"kafka_bootstrap_servers": f"localhost:{port}"}
    refused(run_whirr("topics", "check", env=plant.env("admin", **named)), plant, "certificate", "localhost")
    lax = plant.settings("admin", kafka_ssl_check_hostname=False, **named)
    async with admin_client(lax) as admin:
        assert await admin.list_topics()


def test_the_documented_rights_are_those_that_are_given() -> None:
    documented = (REPOSITORY / "docs" / "kafka.md").read_text()
    table = {
        tuple(cell.strip(" `") for cell in row.strip("|").split("|"))
        for row in documented.splitlines()
        if row.startswith(("| `gateway`", "| `worker`", "| `recorder`", "| `learner`", "| `consumer`", "| `operator`"))
    }
    given = {(right.principal.removeprefix("User:"), right.operation, right.kind, right.name) for right in rights()}
    assert table == given
    assert shutil.which("sh") is None or subprocess.run(["sh", "-n", ACLS_FILE], check=False).returncode == 0


async def write_error(settings: Settings, topic: str) -> KafkaError | None:
    async with AIOKafkaProducer(request_timeout_ms=5000, **client_options(settings)) as producer:
        try:
            await producer.send_and_wait(topic, b"x")
        except KafkaError as error:
            return error
    return None


async def read_error(settings: Settings, topic: str, group: str | None = None) -> KafkaError | None:
    consumer = AIOKafkaConsumer(group_id=group, auto_offset_reset="earliest", **client_options(settings))
    try:
        await consumer.start()
        if group is not None:
            await consumer.committed(TopicPartition(topic, 0))
        if topic not in await consumer.topics():  # hidden from this user; a client that asks for it waits for ever
            return TopicAuthorizationFailedError(topic)
        consumer.assign([TopicPartition(topic, 0)])
        await asyncio.wait_for(consumer.getone(), 20)
    except KafkaError as error:
        return error
    finally:
        await consumer.stop()
    return None
