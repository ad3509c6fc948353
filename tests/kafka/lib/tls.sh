# Certificates in PEM, which both Kafka and librdkafka read, and the properties of the secured listeners. Sourced.
# shellcheck shell=bash

# The users of the SASL listener: the first may read and write, the second may do nothing.
user=gw password=secret blind=blind

# certificate NAME SUBJECT DAYS: NAME.key (PKCS 8), NAME.pem.
certificate() {
    openssl req -newkey rsa:2048 -noenc -keyout "$1.key" -out "$1.csr" -subj "/CN=$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$3" -out "$1.pem" \
        -extfile <(echo "subjectAltName=DNS:localhost,IP:127.0.0.1") 2>/dev/null
    rm "$1.csr"
}

make_certificates() (
    mkdir -p "$dir/tls"
    chmod 700 "$dir/tls"
    cd "$dir/tls"
    openssl req -x509 -newkey rsa:2048 -noenc -keyout ca.key -out ca.pem -days 30 -subj "/CN=wscluster tests" 2>/dev/null
    certificate server localhost 30
    certificate client client 30
    certificate expired localhost -1
    cat server.key server.pem ca.pem >server-store.pem
    cat expired.key expired.pem ca.pem >expired-store.pem
)

secure_properties() {
    cat <<EOF
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$user="$password" user_$blind="$password";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=$dir/tls/server-store.pem
ssl.truststore.type=PEM
ssl.truststore.location=$dir/tls/ca.pem
ssl.client.auth=none
listener.name.tls.ssl.client.auth=required
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location=$dir/tls/expired-store.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:$user;User:CN=client
EOF
}

# Arguments of the format: SCRAM users are made there.
scram_users() {
    local mechanism name
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
        for name in "$user" "$blind"; do
            printf '%s\n' --add-scram "$mechanism=[name=$name,password=$password]"
        done
    done
}
