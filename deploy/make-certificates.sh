#!/bin/sh
# Makes a certificate authority and a certificate for Kafka: sh make-certificates.sh DIR HOST...
#
#   DIR/ca.pem      for every client: WHIRR_KAFKA_SSL_CAFILE
#   DIR/ca.key      keep it elsewhere: it makes certificates that clients trust
#   DIR/kafka.pem   key and certificate for the broker, valid for the HOSTs (names or IP addresses) and 825 days
#
# An authority that is there is used again, so that clients need not be told when the broker's certificate is renewed.
set -eu
dir=$1
shift
names=""
for host in "$@"; do
  case $host in
    *[!0-9.]*) names="${names:+$names,}DNS:$host" ;;
    *) names="${names:+$names,}IP:$host" ;;
  esac
done
[ -n "$names" ] || { echo "say for which hosts: sh make-certificates.sh DIR HOST..." >&2; exit 2; }

umask 077
mkdir -p "$dir"
if [ ! -e "$dir/ca.key" ]; then
  openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 3650 -subj "/CN=Whirr Kafka CA" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
fi
openssl req -newkey rsa:3072 -nodes -sha256 -subj "/CN=kafka" -keyout "$dir/kafka.key" -out "$dir/kafka.csr" 2>/dev/null
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names" >"$dir/kafka.ext"
openssl x509 -req -in "$dir/kafka.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -sha256 -days 825 \
  -extfile "$dir/kafka.ext" -out "$dir/kafka.crt" 2>/dev/null
openssl pkcs8 -topk8 -nocrypt -in "$dir/kafka.key" -out "$dir/kafka.pem"
cat "$dir/kafka.crt" "$dir/ca.pem" >>"$dir/kafka.pem"
rm "$dir/kafka.csr" "$dir/kafka.ext" "$dir/kafka.crt" "$dir/kafka.key"
chmod 644 "$dir/ca.pem"
chmod 755 "$dir"
echo "made $dir/ca.pem and $dir/kafka.pem for $names"
