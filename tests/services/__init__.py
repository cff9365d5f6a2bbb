"""Real services for the tests, run on this machine from its own packages: Apache Kafka, Redis, PostgreSQL."""

from tests.services.jars import KAFKA_VERSION, fetch_kafka
from tests.services.kafka import KafkaBroker, KafkaCluster
from tests.services.postgres import Postgres
from tests.services.redis import Redis
from tests.services.secured import SecuredKafka
from tests.services.service import NotInstalled, Service

__all__ = [
    "KAFKA_VERSION",
    "KafkaBroker",
    "KafkaCluster",
    "NotInstalled",
    "Postgres",
    "Redis",
    "SecuredKafka",
    "Service",
    "fetch_kafka",
]
