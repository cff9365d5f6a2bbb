"""Real services for the tests, run on this machine from its own packages: Apache Kafka, Redis, PostgreSQL."""

from scripts.services.jars import KAFKA_VERSION, fetch_kafka
from scripts.services.kafka import KafkaBroker, KafkaCluster
from scripts.services.postgres import Postgres
from scripts.services.redis import Redis
from scripts.services.secured import SecuredKafka
from scripts.services.service import NotInstalled, Service

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
