#!/bin/sh
# Formats the storage at the first start, with a password for each user, and runs the broker.
set -eu
config=/etc/kafka/whirr/server.properties
scram() { printf 'SCRAM-SHA-512=[name=%s,password=%s]' "$1" "$2"; }

/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id "$CLUSTER_ID" --config "$config" \
  --add-scram "$(scram admin "$KAFKA_ADMIN_PASSWORD")" \
  --add-scram "$(scram worker "$KAFKA_WORKER_PASSWORD")" \
  --add-scram "$(scram gateway "$KAFKA_GATEWAY_PASSWORD")" \
  --add-scram "$(scram recorder "$KAFKA_RECORDER_PASSWORD")" \
  --add-scram "$(scram learner "$KAFKA_LEARNER_PASSWORD")" \
  --add-scram "$(scram consumer "$KAFKA_CONSUMER_PASSWORD")" \
  --add-scram "$(scram operator "$KAFKA_OPERATOR_PASSWORD")"
exec /opt/kafka/bin/kafka-server-start.sh "$config"
