#!/bin/sh
# Gives the users their rights (acls.sh), as admin, over TLS.
set -eu
umask 077
cat >/tmp/admin.properties <<END
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="$KAFKA_ADMIN_PASSWORD";
ssl.truststore.type=PEM
ssl.truststore.location=/etc/kafka/tls/ca.pem
END
PATH=$PATH:/opt/kafka/bin BOOTSTRAP=kafka:9093 CONFIG=/tmp/admin.properties sh /etc/kafka/whirr/acls.sh
