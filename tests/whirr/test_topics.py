"""``whirr topics``: makes what is missing, and names what differs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from commands import run
from schemas.errors import SettingsError
from tests.helpers import KafkaUnderTest, run_whirr
from whirr import process
from whirr.settings import changelog_topic, load_settings
from whirr.topics import topic_specs


@pytest.fixture
def environment(kafka: KafkaUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the test's own broker and topics in the environment."""
    settings = kafka.settings()
    names = ("kafka_bootstrap_servers", "frames_topic", "alerts_topic", "scores_topic")
    for name in (*names, "dead_letter_topic", "verdicts_topic", "worker_id", "topic_partitions"):
        monkeypatch.setenv(f"WHIRR_{name.upper()}", str(getattr(settings, name)))


def topics(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any], str]:
    code = run(["topics", *args, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else {}, captured.err


@pytest.mark.usefixtures("environment")
def test_what_is_missing_is_made_once_and_then_as_expected(
    kafka: KafkaUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [*kafka.kinds, changelog_topic(kafka.settings().worker_id)]
    code, said, _ = topics(capsys, "check")
    assert code == 1
    assert {difference["topic"] for difference in said["differences"]} == set(names)
    assert {difference["found"] for difference in said["differences"]} == {None}

    code, said, _ = topics(capsys, "create")
    assert (code, said["differences"]) == (0, [])
    assert {topic["name"]: topic["created"] for topic in said["topics"]} == dict.fromkeys(names, True)
    code, said, _ = topics(capsys, "create")
    assert code == 0
    assert {topic["created"] for topic in said["topics"]} == {False}
    code, said, _ = topics(capsys, "check")
    assert (code, said["differences"]) == (0, [])


@pytest.mark.usefixtures("environment")
async def test_each_difference_is_named_and_left_alone(
    kafka: KafkaUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = kafka.settings()
    await kafka.create_topics(settings.alerts_topic, partitions=2, config={"retention.ms": "1000"})
    # In a process of its own: this test has an event loop.
    assert run_whirr("topics", "create").returncode == 0
    done = run_whirr("topics", "check", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["differences"]
    expected = [("partitions", "4", "2"), ("retention.ms", str(720 * 3_600_000), "1000")]
    assert [(entry["what"], entry["expected"], entry["found"]) for entry in found] == expected
    assert {entry["topic"] for entry in found} == {settings.alerts_topic}
    shown = run_whirr("topics", "check").stdout
    assert "partitions" in shown
    assert settings.alerts_topic in shown


@pytest.mark.usefixtures("environment")
async def test_topics_are_made_as_they_are_specified(kafka: KafkaUnderTest) -> None:
    if kafka.embedded:
        pytest.skip("the embedded broker keeps no topic configuration")
    assert run_whirr("topics", "create").returncode == 0
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        specs = topic_specs(kafka.settings())
        asked = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in specs]
        answers = [entry for response in await admin.describe_configs(asked) for entry in response.resources]
    finally:
        await admin.close()
    config = {entry[3]: {name: value for name, value, *_ in entry[4]} for entry in answers}
    for spec in specs:
        assert {name: config[spec.name][name] for name in spec.config} == spec.config
        assert int(config[spec.name]["max.message.bytes"]) >= 2 * 1024 * 1024
    assert config[specs[-1].name]["cleanup.policy"] == "compact"
    assert int(config[specs[-1].name]["min.compaction.lag.ms"]) >= 3_600_000


def test_replicas_that_must_be_in_sync_follow_the_replication() -> None:
    for replication, expected in ((1, "1"), (2, "1"), (3, "2")):
        specs = topic_specs(load_settings(topic_replication=replication))
        assert {spec.config["min.insync.replicas"] for spec in specs} == {expected}
    assert load_settings(topic_replication=3, topic_min_insync=3).min_insync_replicas == 3
    with pytest.raises(SettingsError, match="topic_min_insync is 2, topic_replication 1"):
        load_settings(topic_min_insync=2)


def test_more_replicas_than_brokers_is_said_without_a_traceback(
    kafka: KafkaUnderTest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kafka.embedded:
        pytest.skip("the embedded broker takes any number of replicas")
    monkeypatch.setenv("WHIRR_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("WHIRR_FRAMES_TOPIC", f"wide-{kafka.suffix}")
    monkeypatch.setenv("WHIRR_TOPIC_REPLICATION", "3")
    code, _, said = topics(capsys, "create")
    assert code == 3
    assert "replication" in said.lower()
    assert f"wide-{kafka.suffix}" in said


def test_kafka_that_is_away_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["topics", "check", "--bootstrap", f"127.0.0.1:{process.free_port()}"])
    assert code == 3
    assert capsys.readouterr().err.count("\n") == 1
