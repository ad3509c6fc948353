#!/usr/bin/env bash
# A `wscluster local` run with independent programs at both ends: kcat publishes, Python's websockets receives, through the gateway
# and from each shard directly. Then `publish` and `verify` on the same run; Ctrl-C leaves no process.
# lane: wait
# needs: build
# apt: kcat jq
# limit: 300
set -euo pipefail
cd "$(dirname "$0")/../.."

count=500
passed=0
run=
fail() {
    echo "$*"
    tail -n 40 "$STAGE_DIR/log"
    exit 1
}
end() {
    [[ -z $run ]] || kill -9 "$run" 2>/dev/null || true
}
trap end EXIT

"$WSCLUSTER" local -f manifests/quickstart.yaml --port 0 --output json >"$STAGE_DIR/run.json" 2>"$STAGE_DIR/log" &
run=$!
for _ in {1..600}; do
    [[ -s $STAGE_DIR/run.json ]] && break
    kill -0 "$run" 2>/dev/null || fail "the run ended before it was ready"
    sleep 0.1
done
[[ -s $STAGE_DIR/run.json ]] || fail "the run was not ready within 60 s"
ready=$(head -n 1 "$STAGE_DIR/run.json")
gateway=$(jq -r .gateway <<<"$ready")
kafka=$(jq -r .kafka <<<"$ready")
mapfile -t shards < <(jq -r '.shards[].ws' <<<"$ready")
mapfile -t pids < <(jq -r '(.shards + .gateways)[].pid' <<<"$ready")
((${#shards[@]} == 3 && ${#pids[@]} == 5)) || fail "not three shards and two gateways: $ready"

# Starts the clients in the background and waits until all are subscribed.
subscribe() {
    tests/local/clients.py "$1" "$2" "$gateway" "$gateway" "${shards[@]}" >"$STAGE_DIR/clients" 2>&1 &
    clients=$!
    for _ in {1..300}; do
        grep -q '^subscribed$' "$STAGE_DIR/clients" && return
        kill -0 "$clients" 2>/dev/null || break
        sleep 0.1
    done
    cat "$STAGE_DIR/clients"
    fail "the clients did not subscribe"
}
received() {
    wait "$clients" || { cat "$STAGE_DIR/clients" && fail "$1: the clients did not receive all records"; }
    grep -v '^subscribed$' "$STAGE_DIR/clients"
    passed=$((passed + 1))
}

echo "== kcat publishes $count records"
subscribe BTC.trade "$count"
for ((n = 1; n <= count; n++)); do echo "BTC:{\"price\":$n}"; done | kcat -P -b "$kafka" -t odin.trades -K: ||
    fail "kcat could not publish"
received kcat

echo "== wscluster publish writes two"
subscribe ETH.trade 2
"$WSCLUSTER" publish --brokers "$kafka" odin.trades --key ETH '{"price":1}' '{"price":2}' || fail "publish failed"
received publish

echo "== verify"
"$WSCLUSTER" verify --local "$STAGE_DIR/run.json" -f manifests/quickstart.yaml || fail "verify failed"
passed=$((passed + 1))

echo "== Ctrl-C"
kill -INT "$run"
code=0
wait "$run" || code=$?
run=
tail -n 1 "$STAGE_DIR/run.json"
((code == 0)) || fail "the run ended with exit code $code"
for pid in "${pids[@]}"; do
    ! kill -0 "$pid" 2>/dev/null || fail "process $pid is left"
done
passed=$((passed + 1))
echo "$passed passed, 0 failed"
