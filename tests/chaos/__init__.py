"""Chaos: a plant streams through Kafka while workers, brokers and links fail; no frame and no alert may be lost."""
