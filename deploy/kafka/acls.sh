#!/bin/sh
# Gives Whirr's users their rights: each line is one right, and without one nothing is allowed. Run it as a super user:
#
#   BOOTSTRAP=kafka:9093 CONFIG=admin.properties sh acls.sh
#
# With topics or a worker_id of other names, change the names here. Read and Write include Describe.
set -eu

acls() {
  kafka-acls.sh --bootstrap-server "$BOOTSTRAP" ${CONFIG:+--command-config "$CONFIG"} --add "$@"
}

# Gateways write frames. They can read nothing, not even their own.
acls --allow-principal User:gateway --operation Write --topic vibration-frames

# Workers read frames as the group worker_id, and answer.
acls --allow-principal User:worker --operation Read --topic vibration-frames
acls --allow-principal User:worker --operation Read --group whirr-worker
acls --allow-principal User:worker --operation Write --topic anomalies --topic vibration-scores --topic vibration-frames.dlq
acls --allow-principal User:worker --operation Read --operation Write --topic whirr-worker-stream-states-changelog

# They heed verdicts; without this right they go on without.
acls --allow-principal User:worker --operation Read --topic verdicts

# Recorders read frames as the group recordings_group.
acls --allow-principal User:recorder --operation Read --topic vibration-frames
acls --allow-principal User:recorder --operation Read --group whirr-recorder

# `whirr learn` reads what workers and people say, and tells of drifts among the alerts.
acls --allow-principal User:learner --operation Read --topic vibration-scores --topic anomalies --topic verdicts
acls --allow-principal User:learner --operation Write --topic anomalies

# Consumers read alerts.
acls --allow-principal User:consumer --operation Read --topic anomalies

# Operators read everything, and send dead letters again; the first who does makes the topic that says which were sent.
acls --allow-principal User:operator --operation Read --topic vibration-frames --topic anomalies --topic vibration-scores --topic vibration-frames.dlq
acls --allow-principal User:operator --operation Write --topic vibration-frames
acls --allow-principal User:operator --operation Read --operation Write --operation Create --topic vibration-frames.dlq.replayed

# They give verdicts, and see who gave which.
acls --allow-principal User:operator --operation Read --operation Write --topic verdicts --topic verdicts.log
