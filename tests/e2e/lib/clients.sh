# shellcheck shell=bash
# Clients that keep their positions and reconnect, while a change or an accident happens to the servers. Every delivery is compared
# with the topic. Sourced after cluster.sh.

# load NAME ARGUMENT…: `wscluster load` in a pod; its output goes to $scratch/NAME.
load() {
    local name=$1
    shift
    pod "$name" load "$@" --output json --progress json
    wait_for 60 "pod $name" phase_of "$name" 'Running|Succeeded|Failed'
    follow "$name" &
    children+=("$!")
}
# Until the result is there. When the API server stops, the stream ends; the next one begins again with the first line.
follow() {
    local part=0
    until result "$1"; do
        part=$((part + 1))
        k logs --follow "$1" >"$scratch/$1.$part" &
        ln -sf "$1.$part" "$scratch/$1"
        wait $! || true
        sleep 0.5
    done >/dev/null 2>&1
}

# The line of the last second, and the result at the end.
progress() { grep '"phase":' "$scratch/$1" | tail -n 1; }
result() { grep '"latency_ms":' "$scratch/$1"; }
# live NAME CLIENTS: whether that many are connected, each for at least its settle time (1 s).
live() { (($(progress "$1" | jq '.clients | .settled - .dropped') >= $2)); }
lost_some() { (($(progress "$1" | jq '.clients.dropped') > 0)); }

# audience NAME CLUSTER CLIENTS [ARGUMENT…]: connects audited clients to a WsCluster.
audience() {
    local name=$1 cluster=$2 clients=$3
    shift 3
    load "$name" --url "ws://$cluster-gateway.$namespace.svc:8080/ws" --connections "$clients" --rate 200 --hold 10m \
        --channels 'K{0..9}.trade' --brokers "$kafka" --topic "$topic" --publish-rate 50 --retry 100 --retry-max 2s "$@"
    wait_for 60 "$clients clients" live "$name" "$clients"
    slots_watch "$cluster"
}

# slots_watch CLUSTER: asks every gateway twice a second for its shards; writes one line for each shard of an answer.
slots_watch() {
    local base
    if [[ -z ${proxy:-} ]]; then
        local_port "$scratch/proxy" kubectl proxy --port=0
        proxy=$port
    fi
    base=http://127.0.0.1:$proxy/api/v1/namespaces/$namespace/pods
    : >"$scratch/slots"
    while sleep 0.5; do
        for pod in $(curl -s -m 2 "$base?labelSelector=app.kubernetes.io/instance=$1,app.kubernetes.io/component=gateway" |
            jq -r '.items[]?.metadata.name'); do
            curl -s -m 2 "$base/$pod:9090/proxy/health" |
                jq -r '.shards[]? | "\(.id) \(.connections) \(.max_connections)"' >>"$scratch/slots" || true
        done
    done 2>/dev/null &
    watcher=$!
    children+=("$watcher")
}
# overfull: the number of those lines with a shard over its capacity.
overfull() { awk '$2 > $3 { n++ } END { print NR ? n + 0 : "not seen" }' "$scratch/slots"; }

# leave NAME: ends the clients and waits for their result.
leave() {
    [[ -z ${watcher:-} ]] || kill "$watcher"
    watcher=
    k delete pod "$1" --wait=false >/dev/null
    wait_for 90 "the result of $1" result "$1"
}

# peak NAME [SECONDS]: the highest rate of lost connections a second, over any one second (or SECONDS) of the run.
peak() {
    grep '"phase":' "$scratch/$1" | jq -s --argjson seconds "${2:-1}" '[., .[$seconds:]] | transpose | map(select(.[1]) |
        (.[1].clients.dropped - .[0].clients.dropped) / (.[1].seconds - .[0].seconds)) | max // 0 | round'
}

# row NAME WHAT EVICT_RATE SECONDS: reports the result of the clients.
row() {
    local line
    line=$(result "$1" | jq -r --arg what "$2" --arg peak "$(peak "$1")" --arg rate "$3" --arg over "$(overfull)" --arg took "$4" '
        [$what, .planned, .reconnected, "\($peak) / \($rate)", .failed_attempts, .audit.lost + .audit.declared_lost + .audit.mismatched,
            .audit.duplicated + .audit.reordered, $over, "\($took) s"] | "| \(join(" | ")) |"')
    report rows "$line"
}

# unharmed NAME [FAILED_ATTEMPTS]: all clients came back; no delivery was lost, duplicated, reordered or not recovered; no more
# handshakes failed than allowed (0); no shard was ever over its capacity.
unharmed() {
    result "$1" | jq -e --argjson attempts "${2:-0}" '.failed == 0 and .failed_attempts <= $attempts and .connected >= .planned and
        .audit.basis == "topic" and .audit.expected > 0 and
        ([.audit | .lost, .declared_lost, .mismatched, .duplicated, .reordered, .unrecovered, .gaps] | add) == 0' >/dev/null ||
        fail "the clients of $1 were harmed: $(result "$1" | jq -c '{planned, connected, failed, failed_attempts, dropped, reconnected, failures, drops, audit, generator}')"
    same 0 "$(overfull)" "answers that show a shard over its capacity"
}

# gentle NAME EVICT_RATE: connections were never lost at more than 1.2 times the rate. The rate is judged over three seconds: on a busy
# machine the tester may be late and count the losses of two seconds in one.
gentle() {
    local peak
    peak=$(peak "$1" 3)
    ((peak * 10 <= $2 * 12)) || fail "$peak connections a second were lost, more than 1.2 × $2"
}

# through CAUSE CLUSTER CLIENTS COMMAND…: runs COMMAND, which returns when the change is over, under audited clients, and judges them.
through() {
    local cause=$1 cluster=$2 clients=$3 name begin took
    shift 3
    name=clients-$((++audiences))
    audience "$name" "$cluster" "$clients"
    begin=$EPOCHREALTIME
    "$@"
    took=$(since "$begin" 0)
    wait_for 60 "all clients back" live "$name" "$clients"
    leave "$name"
    row "$name" "$cause" "$(k get wsc "$cluster" -o jsonpath='{.spec.drain.evictRate}')" "$took"
    unharmed "$name" "${attempts:-0}"
}
audiences=0

# rollout_with COMMAND…: rolls the shards of prices and runs COMMAND once the first one is new.
round=0
rollout_with() {
    local before
    before=$(uids prices shard)
    edit prices "{\"template\": {\"shard\": {\"annotations\": {\"example.com/round\": \"$((++round))\"}}}}"
    first_new() {
        local old
        old=$(old prices shard "$before") && [[ $old != "$before" ]]
    }
    wait_for 60 "the first new shard" first_new
    "$@"
    wait_for 180 "new shards" all_new prices shard "$before"
    settled prices 120
}
