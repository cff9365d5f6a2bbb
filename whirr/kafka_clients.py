"""How every Kafka client of Whirr connects, with TLS and SASL as the settings say, and what a refusal means.

Every aiokafka client is made with :func:`client_options`, every consumer with :func:`consumer_options`; what goes wrong
is put into words by :func:`refusal` (Kafka answered, and said no) and :func:`why_not_connected` (it let nobody in).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from schemas.errors import AccessRefused, ServiceUnavailable, SettingsError, WhirrError
from whirr.fetching import READ_COMMITTED
from whirr.settings import Settings

NOT_AUTHORIZED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
NOT_AUTHENTICATED = (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError)
_PROBE_TIMEOUT_MS = 5_000
_REQUEST_TIMEOUT_MS = 10_000


def client_options(settings: Settings) -> dict[str, Any]:
    """Return what every aiokafka producer, consumer and admin client is given: addresses, TLS and SASL.

    The result holds the password in clear; it is for a client's constructor and nothing else.

    Raises:
        SettingsError: A certificate or key can't be used.
    """
    return {"bootstrap_servers": settings.bootstrap, **security_options(settings)}


def consumer_options(settings: Settings) -> dict[str, Any]:
    """Return :func:`client_options`, and that records are read once their transaction, if any, is committed.

    Raises:
        SettingsError: A certificate or key can't be used.
    """
    return {**client_options(settings), "isolation_level": READ_COMMITTED}


def security_options(settings: Settings) -> dict[str, Any]:
    """Return :func:`client_options` without the addresses."""
    options: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        assert settings.kafka_sasl_password is not None  # the settings' own check
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """Return how TLS connections to Kafka are made and checked.

    Raises:
        SettingsError: A certificate or key can't be used.
    """
    ca = settings.kafka_ssl_cafile
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"kafka_ssl_cafile is {str(ca)!r}, which holds no certificates ({_brief(error)})") from None
    context.check_hostname = settings.kafka_ssl_check_hostname
    if settings.kafka_ssl_certfile is not None:
        _load_own_certificate(context, settings)
    return context


def user_of(settings: Settings) -> str:
    """Return who this client is to Kafka, for messages."""
    if settings.kafka_security_protocol.startswith("SASL"):
        return f"user {settings.kafka_sasl_username!r}"
    if settings.kafka_ssl_certfile is not None:
        return f"the client of certificate {str(settings.kafka_ssl_certfile)!r}"
    return "a client without a user name"


def refusal(error: BaseException, settings: Settings, operation: str, what: str) -> AccessRefused | None:
    """Return what a client's error means if Kafka refuses this user, or None if it means something else.

    Args:
        error: What the client raised.
        settings: The settings it was made with.
        operation: What it tried, such as ``read``.
        what: On what, such as ``topic 'anomalies'``.
    """
    if isinstance(error, NOT_AUTHENTICATED):
        return _not_authenticated(error, settings, settings.bootstrap)
    if isinstance(error, NOT_AUTHORIZED):
        return AccessRefused(
            f"Kafka at {settings.bootstrap} does not let {user_of(settings)} {operation} {what} "
            f"({type(error).__name__}); grant it with an ACL, or use another user"
        )
    return None


def refused_within(error: BaseException | None, settings: Settings) -> AccessRefused | None:
    """Return the refusal in an error, its causes or its parts, or None: for what ends a whole program."""
    while error is not None:
        if isinstance(error, AccessRefused):
            return error
        if isinstance(error, BaseExceptionGroup):
            found = (refused_within(part, settings) for part in error.exceptions)
            return next((refused for refused in found if refused is not None), None)
        if (refused := refusal(error, settings, "use", _named_in(error, settings))) is not None:
            return refused
        error = error.__cause__ or error.__context__
    return None


async def check_visible(client: AIOKafkaClient, settings: Settings, topic: str) -> None:
    """Return if a topic that Kafka does not list is really missing; without the right to see it, it looks the same.

    Raises:
        AccessRefused: It is hidden from this user.
    """
    node = client.get_random_node()
    if settings.kafka_security_protocol == "PLAINTEXT" or node is None:
        return
    answer = await client.send(node, MetadataRequest([topic], allow_auto_topic_creation=False))
    for described in answer.to_object()["topics"]:
        if described["error_code"] == TopicAuthorizationFailedError.errno:
            refused = refusal(TopicAuthorizationFailedError(topic), settings, "see", f"topic {topic!r}")
            assert refused is not None
            raise refused


async def why_not_connected(settings: Settings) -> WhirrError:
    """Return why a client could not connect: it asks each broker once more, by itself.

    aiokafka tells its log only, and then raises the same error for a broker that is away, a certificate that is not
    trusted and a wrong password.

    Returns:
        An :class:`AccessRefused` if a broker answered and refused, else a :class:`ServiceUnavailable`.
    """
    options = security_options(settings)
    reasons = []
    for address in settings.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        with quiet_aiokafka():
            found = await _why_refused_by(host.strip("[]"), int(port), settings, options)
        if isinstance(found, AccessRefused):
            return found
        reasons.append(found)
    return ServiceUnavailable(f"Kafka at {settings.bootstrap} can't be reached ({reasons[0]})")


@contextmanager
def quiet_aiokafka() -> Iterator[None]:
    """Keep aiokafka from logging each failed attempt: one message, by whoever uses the client, is enough."""
    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@asynccontextmanager
async def commands_producer(settings: Settings, client_id: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Yield a command's producer: it waits for all replicas, gives up after 10 s and leaves the words to its caller.

    Args:
        settings: Where Kafka is.
        client_id: As the broker's log shows it.
        options: More of :class:`aiokafka.AIOKafkaProducer`'s.

    Raises:
        ServiceUnavailable: Kafka can't be reached.
        AccessRefused: Kafka refuses this user.
    """
    producer = AIOKafkaProducer(
        **client_options(settings),
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        **options,
    )
    with quiet_aiokafka():
        try:
            await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await producer.stop()
            raise refusal(error, settings, "write", "to it") or await why_not_connected(settings) from None
        try:
            yield producer
        finally:
            await producer.stop()


async def _why_refused_by(host: str, port: int, settings: Settings, options: dict[str, Any]) -> AccessRefused | str:
    address = f"{host}:{port}"
    try:
        connection = await create_conn(host, port, request_timeout_ms=_PROBE_TIMEOUT_MS, **options)
    except NOT_AUTHENTICATED as error:
        return _not_authenticated(error, settings, address)
    except ssl.SSLCertVerificationError as error:
        trusted = f"{str(settings.kafka_ssl_cafile)!r} does" if settings.kafka_ssl_cafile else "this system's CAs do"
        return AccessRefused(
            f"Kafka at {address} shows a certificate that {trusted} not vouch for ({error.verify_message}); "
            "is kafka_ssl_cafile the CA of this Kafka?"
        )
    except ssl.SSLError as error:
        return AccessRefused(
            f"Kafka at {address} and this client can't agree on TLS ({_brief(error)}); "
            f"kafka_security_protocol is {settings.kafka_security_protocol}"
        )
    except (TimeoutError, KafkaError, OSError) as error:
        return _brief(error) + _hint(error, settings)
    connection.close()
    return "it answered when asked again"


def _hint(error: Exception, settings: Settings) -> str:
    """Return what a connection that was made and then dropped may mean."""
    if isinstance(error, KafkaError) and not settings.kafka_security_protocol.endswith("SSL"):
        return f"; kafka_security_protocol is {settings.kafka_security_protocol}: does this Kafka want TLS?"
    return ""


def _not_authenticated(error: BaseException, settings: Settings, address: str) -> AccessRefused:
    if isinstance(error, SaslAuthenticationFailed):
        return AccessRefused(
            f"Kafka at {address} does not let {user_of(settings)} in: unknown user or wrong password "
            f"({settings.kafka_sasl_mechanism})"
        )
    return AccessRefused(
        f"Kafka at {address} does not take kafka_sasl_mechanism {settings.kafka_sasl_mechanism} ({_brief(error)})"
    )


def _named_in(error: BaseException, settings: Settings) -> str:
    """Return what an error of Kafka's is about: the client puts a topic, or several, into its arguments."""
    if isinstance(error, GroupAuthorizationFailedError):
        return f"group {settings.worker_id!r}"
    if isinstance(error, TopicAuthorizationFailedError) and error.args:
        names = error.args[0] if isinstance(error.args[0], set | frozenset | list | tuple) else [error.args[0]]
        return "topic " + ", ".join(repr(str(name)) for name in sorted(names, key=str))
    return "the cluster"


def _load_own_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    certificate, key = settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile
    assert certificate is not None
    where = str(key or certificate)

    def passphrase() -> str:  # without this OpenSSL would ask on the terminal, where nobody is
        raise SettingsError(f"the key in {where!r} has a passphrase; expected one without")

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except (OSError, ssl.SSLError) as error:
        shown = f"kafka_ssl_certfile {str(certificate)!r} and the key in {where!r}"
        raise SettingsError(f"{shown} can't be used together ({_brief(error)})") from None


def _brief(error: BaseException) -> str:
    """Return an error on one line: its kind, and what it says."""
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
    text = reason or str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
