#!/usr/bin/env bash
# Real Kafka: every delivery is audited while a broker restarts and another is killed. Then logins and TLS, and the errors of those
# that fail.
# lane: wait
# needs: build jars
# apt: kcat openjdk-17-jre-headless maven openssl procps util-linux curl
# limit: 600
# shellcheck disable=SC2329 # `check` and `within` invoke functions by name
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    echo "skipped: needs Java 17 and Maven"
    exit 77
fi
if [[ -z ${KAFKA_RIG:-} ]]; then
    # Runs this script again, with brokers. They end with it, however it ends.
    exec tests/kafka/run --brokers 3 --secure bash "$0"
fi

passed=0 failed=0
check() { # WHAT CMD…
    local what=$1
    shift
    if "$@"; then
        echo "ok    $what"
        passed=$((passed + 1))
    else
        echo "FAIL  $what"
        failed=$((failed + 1))
    fi
}
within() { # SECONDS CMD…: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# manifest FILE BROKERS [SECURITY]: one shard, one gateway.
manifest() {
    cat >"$1" <<EOF
apiVersion: wscluster.dev/v1alpha1
kind: WsCluster
metadata: { name: real }
spec:
  shards: ${shards:-1}
  capacity: 1000
  source:
    kafka:
      brokers: [$2]
      topics: [{ name: real.trades, channel: "{key}.trade" }]
      security: ${3:-null}
  template: { shard: { workers: 1 }, gateway: { workers: 1 } }
EOF
}
# start NAME FILE: a local run in the background; sets $pid and $url.
start() {
    "$WSCLUSTER" local -f "$2" --port 0 --admin-port 0 --output json --grace 1s >"$STAGE_DIR/$1.json" 2>"$STAGE_DIR/$1.log" &
    pid=$!
    pids+=("$pid")
    within 60 grep -q '"gateway"' "$STAGE_DIR/$1.json" || { cat "$STAGE_DIR/$1.log" && return 1; }
    url=ws://$(field gateway "$STAGE_DIR/$1.json")/ws
}
field() { sed -n "1s/.*[{,]\"$1\":\"\([^\"]*\)\".*/\1/p" "$2" | head -n 1; }
stop() { kill "$pid" && wait "$pid"; }
pids=()
# Some of them have ended by then.
trap 'kill "${pids[@]}" 2>/dev/null || true; wait || true' EXIT

tests/kafka/tool topics --create --topic real.trades --partitions 3 >/dev/null

# --- Delivery ---

shards=2 manifest "$STAGE_DIR/plain.yaml" "\"${KAFKA_LINK_BROKERS//,/\",\"}\""
start plain "$STAGE_DIR/plain.yaml"

last_has() { timeout 10 "$WSCLUSTER" tail --url "$url" A.trade --latest --count 1 --output json 2>/dev/null | grep "$1" >/dev/null; }
echo 'A:{"from":"kcat"}' | kcat -P -b "$KAFKA_BROKERS" -t real.trades -K:
check "a record from kcat reaches a client" within 30 last_has kcat
"$WSCLUSTER" publish --brokers "$KAFKA_BROKERS" real.trades --key A '{"from":"publish"}' >/dev/null
check "a record from publish reaches a client" within 30 last_has publish

"$WSCLUSTER" load --url "$url" -c 100 -r 100 --channels 'K{0..9}.trade' --brokers "$KAFKA_BROKERS" --topic real.trades --publish-rate 100 \
    --hold 45s --tail 15s --retry 100 --output json --progress json --fail-on 'failed>0,audit.lost>0,audit.declared_lost>0' \
    --fail-on 'audit.mismatched>0,audit.duplicated>0,audit.reordered>0,audit.unrecovered>0,audit.expected<10000' \
    >"$STAGE_DIR/load.json" 2>"$STAGE_DIR/load.log" &
load=$!
check "clients are connected" within 30 grep -q holding "$STAGE_DIR/load.log"
check "a broker restarts" tests/kafka/broker 1 restart
check "a broker is killed" tests/kafka/broker 2 kill
check "the killed broker starts again" tests/kafka/broker 2 start
audited() { wait "$load" || { tail -n 3 "$STAGE_DIR/load.log" "$STAGE_DIR/load.json" && return 1; }; }
check "no delivery was lost, duplicated or reordered meanwhile" audited
stop

# --- Login and encryption ---

first() { echo "\"${1%%,*}\""; }
health() { curl -sS --max-time 5 "http://$1/health"; }
# secure NAME BROKERS SECURITY: records must reach clients.
secure() {
    manifest "$STAGE_DIR/$1.yaml" "$(first "$2")" "$3"
    start "$1" "$STAGE_DIR/$1.yaml" || return 1
    timeout 60 "$WSCLUSTER" load --url "$url" -c 5 -r 100 --channels A.trade --brokers "$KAFKA_BROKERS" --topic real.trades --publish-rate 20 \
        --hold 2s --output json -q --fail-on 'failed>0,audit.lost>0,audit.expected<100' >/dev/null || return 1
    stop
}
# refused NAME BROKERS SECURITY PATTERN: /health must match PATTERN, and one to three lines of the log.
refused() {
    manifest "$STAGE_DIR/$1.yaml" "$(first "$2")" "$3"
    timeout 60 "$WSCLUSTER" shard -f "$STAGE_DIR/$1.yaml" --name real-0 --listen 127.0.0.1:0 --admin 127.0.0.1:0 \
        >"$STAGE_DIR/$1.json" 2>"$STAGE_DIR/$1.log" &
    pid=$!
    pids+=("$pid")
    within 10 grep -q admin "$STAGE_DIR/$1.json" || return 1
    says() { health "$(field admin "$STAGE_DIR/$1.json")" | grep -iE "$2" >/dev/null; }
    within 20 says "$1" "$4" || { health "$(field admin "$STAGE_DIR/$1.json")" && return 1; }
    # Long enough for several attempts.
    sleep 4
    stop || true
    local lines
    lines=$(grep -ciE "$4" "$STAGE_DIR/$1.log")
    ((lines >= 1 && lines <= 3)) || { echo "$lines lines:" && tail -n 8 "$STAGE_DIR/$1.log" && return 1; }
}
export WRONG=wrong
sasl() { echo "{ tls: { ca: { file: $KAFKA_CA } }, sasl: { mechanism: $1, username: $2, password: { env: $3 } } }"; }
for mechanism in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
    check "$mechanism logs in" secure "$mechanism" "$KAFKA_SASL_BROKERS" "$(sasl $mechanism "$KAFKA_USER" KAFKA_PASSWORD)"
done
check "a client certificate is accepted" secure mtls "$KAFKA_TLS_BROKERS" \
    "{ tls: { ca: { file: $KAFKA_CA }, certificate: { file: $KAFKA_CLIENT_CERT }, key: { file: $KAFKA_CLIENT_KEY } } }"
check "a wrong password is named" refused password "$KAFKA_SASL_BROKERS" "$(sasl SCRAM-SHA-256 "$KAFKA_USER" WRONG)" 'authentication'
check "the missing right of a user is named" refused rights "$KAFKA_SASL_BROKERS" "$(sasl SCRAM-SHA-256 blind KAFKA_PASSWORD)" 'no right|authoriz'
check "an expired certificate is named" refused expired "$KAFKA_EXPIRED_BROKERS" "{ tls: { ca: { file: $KAFKA_CA } } }" 'out of date|expired'
check "a certificate of an unknown authority is named" refused stranger "$KAFKA_SASL_BROKERS" \
    "{ tls: {}, sasl: { mechanism: PLAIN, username: $KAFKA_USER, password: { env: KAFKA_PASSWORD } } }" 'certificate'

echo "$passed passed, $failed failed"
((failed == 0))
