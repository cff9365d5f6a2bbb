"""How clients are told to connect to Kafka, and what is refused before they try."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed, TopicAuthorizationFailedError

from schemas.errors import ServiceUnavailable, SettingsError
from tests.helpers import run_whirr
from whirr.kafka_clients import client_options, refusal, why_not_connected
from whirr.settings import Settings, load_settings

PASSWORD = "a-rather-secret-word"


def settings(**overrides: Any) -> Settings:
    return load_settings(**{"kafka_bootstrap_servers": "kafka:9093", **overrides})


def with_sasl(**overrides: Any) -> Settings:
    given = {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "worker", "kafka_sasl_password": PASSWORD}
    return settings(**{**given, **overrides})


def test_a_client_is_given_what_the_settings_say():
    assert client_options(settings()) == {"bootstrap_servers": "kafka:9093", "security_protocol": "PLAINTEXT"}
    options = client_options(with_sasl())
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("worker", PASSWORD)
    context = options["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    unnamed = client_options(with_sasl(kafka_ssl_check_hostname=False))["ssl_context"]
    assert (unnamed.verify_mode, unnamed.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "expected kafka_sasl_username and kafka_sasl_password"),
        ({"kafka_sasl_username": "worker"}, "PLAINTEXT, but kafka_sasl_username is set; expected SASL_SSL"),
        ({"kafka_ssl_cafile": "ca.pem"}, "PLAINTEXT, but kafka_ssl_cafile is set"),
        ({"kafka_security_protocol": "SSL", "kafka_sasl_password": PASSWORD}, "but kafka_sasl_password is set"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_keyfile": "key.pem"}, "without kafka_ssl_certfile"),
        (
            {
                "kafka_security_protocol": "SASL_PLAINTEXT",
                "kafka_sasl_mechanism": "PLAIN",
                "kafka_sasl_username": "worker",
                "kafka_sasl_password": PASSWORD,
            },
            "in clear",
        ),
        ({"kafka_security_protocol": "SSL", "kafka_embedded": True}, "embedded broker takes PLAINTEXT only"),
    ],
)
def test_what_would_be_ignored_or_leak_is_refused(given: dict[str, Any], expected: str):
    with pytest.raises(SettingsError, match=expected) as caught:
        settings(**given)
    assert PASSWORD not in str(caught.value)


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path):
    empty = tmp_path / "empty.pem"
    empty.touch()
    for missing in (tmp_path / "missing.pem", empty):
        with pytest.raises(SettingsError, match=missing.name):
            client_options(settings(kafka_security_protocol="SSL", kafka_ssl_cafile=missing))
        with pytest.raises(SettingsError, match=missing.name):
            client_options(settings(kafka_security_protocol="SSL", kafka_ssl_certfile=missing))


@pytest.mark.slow
def test_the_password_is_in_no_repr_and_in_nothing_printed(monkeypatch: pytest.MonkeyPatch):
    current = with_sasl()
    assert PASSWORD not in f"{current!r} {current} {current.model_dump()}"
    monkeypatch.setenv("WHIRR_KAFKA_BOOTSTRAP_SERVERS", "kafka:9093")
    monkeypatch.setenv("WHIRR_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("WHIRR_KAFKA_SASL_USERNAME", "worker")
    monkeypatch.setenv("WHIRR_KAFKA_SASL_PASSWORD", PASSWORD)
    for args in (["settings"], ["settings", "--json"], ["worker", "--help"], ["edge", "--help"], ["alerts", "--help"]):
        done = run_whirr(*args)
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr


def test_a_refusal_names_who_what_and_where():
    said = str(refusal(TopicAuthorizationFailedError({"anomalies"}), with_sasl(), "read", "topic 'anomalies'"))
    assert "'worker'" in said
    assert "read topic 'anomalies'" in said
    assert "kafka:9093" in said
    assert "wrong password" in str(refusal(SaslAuthenticationFailed("no"), with_sasl(), "read", "topic 'anomalies'"))
    assert refusal(KafkaConnectionError(), with_sasl(), "read", "topic 'anomalies'") is None


async def test_a_broker_that_is_away_is_no_refusal(unused_tcp_port: int):
    reason = await why_not_connected(settings(kafka_bootstrap_servers=f"127.0.0.1:{unused_tcp_port}"))
    assert isinstance(reason, ServiceUnavailable)
    assert str(unused_tcp_port) in str(reason)
