"""The Faust worker: frames in from Kafka; scores, alerts and dead letters out."""
