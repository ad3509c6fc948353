# shellcheck shell=bash
# Clients that keep their positions and come back, with every delivery compared with the topic, while something
# happens to what serves them. Sourced after cluster.sh.

# load NAME ARGUMENT…: `wscluster load` in a pod; all that it says is followed in $scratch/NAME.
load() {
    local name=$1
    shift
    pod "$name" load "$@" --output json --progress json
    wait_for 60 "pod $name" phase_of "$name" 'Running|Succeeded|Failed'
    follow "$name" &
    children+=("$!")
}
# Until the result is there; an API server that goes away cuts the stream, and the next one begins with the first line.
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

# The last second's line, and the result at the end.
progress() { grep '"phase":' "$scratch/$1" | tail -n 1; }
result() { grep '"latency_ms":' "$scratch/$1"; }
# live NAME CLIENTS: so many are connected, each for its settle time (1 s) at least.
live() { (($(progress "$1" | jq '.clients | .settled - .dropped') >= $2)); }
lost_some() { (($(progress "$1" | jq '.clients.dropped') > 0)); }

# audience NAME CLUSTER CLIENTS [ARGUMENT…]: audited clients of a WsCluster, connected when this returns.
audience() {
    local name=$1 cluster=$2 clients=$3
    shift 3
    load "$name" "ws://$cluster-gateway.$namespace.svc:8080/ws" --connections "$clients" --rate 200 --hold 10m \
        --channels 'K{0..9}.trade' --kafka "$kafka" --topic "$topic" --publish-rate 50 --retry 100 --retry-max 2s "$@"
    wait_for 60 "$clients clients" live "$name" "$clients"
    slots_watch "$cluster"
}

# slots_watch CLUSTER: every gateway is asked twice a second for the shards it knows; one line a shard and answer.
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
# Of all those answers, the ones in which a shard held more than it may.
overfull() { awk '$2 > $3 { n++ } END { print NR ? n + 0 : "not seen" }' "$scratch/slots"; }

# leave NAME: the clients go, and the result is there.
leave() {
    [[ -z ${watcher:-} ]] || kill "$watcher"
    watcher=
    k delete pod "$1" --wait=false >/dev/null
    wait_for 90 "the result of $1" result "$1"
}

# peak NAME [SECONDS]: most connections that were lost in a second, in any second (or SECONDS) of the run.
peak() {
    grep '"phase":' "$scratch/$1" | jq -s --argjson seconds "${2:-1}" '[., .[$seconds:]] | transpose | map(select(.[1]) |
        (.[1].clients.dropped - .[0].clients.dropped) / (.[1].seconds - .[0].seconds)) | max // 0 | round'
}

# row NAME WHAT EVICT_RATE SECONDS: what became of the clients, into the table, if one is wanted.
row() {
    local line
    line=$(result "$1" | jq -r --arg what "$2" --arg peak "$(peak "$1")" --arg rate "$3" --arg over "$(overfull)" --arg took "$4" '
        [$what, .planned, .reconnected, "\($peak) / \($rate)", .failed_attempts, .audit.lost + .audit.declared_lost + .audit.mismatched,
            .audit.duplicated + .audit.reordered, $over, "\($took) s"] | "| \(join(" | ")) |"')
    report rows.md "$line"
}

# unharmed NAME [FAILED_ATTEMPTS]: nobody was given up, nothing lost, doubled, reordered or left unrecovered; no more
# attempts failed than allowed (0); no shard was ever over its capacity.
unharmed() {
    result "$1" | jq -e --argjson attempts "${2:-0}" '.failed == 0 and .failed_attempts <= $attempts and .connected >= .planned and
        .audit.basis == "topic" and .audit.expected > 0 and
        ([.audit | .lost, .declared_lost, .mismatched, .duplicated, .reordered, .unrecovered, .gaps] | add) == 0' >/dev/null ||
        fail "the clients of $1 were harmed: $(result "$1" | jq -c '{planned, connected, failed, failed_attempts, dropped, reconnected, failures, drops, audit, generator}')"
    same 0 "$(overfull)" "answers that show a shard over its capacity"
}

# gentle NAME EVICT_RATE: connections were never lost at more than 1.2 times the rate. Over three seconds, since the tester too may
# be late on a busy machine, and then finds in one second what two have brought.
gentle() {
    local peak
    peak=$(peak "$1" 3)
    ((peak * 10 <= $2 * 12)) || fail "$peak connections a second were lost, more than 1.2 × $2"
}

# through CAUSE CLUSTER CLIENTS COMMAND…: audited clients, COMMAND that returns when the change is over, the verdict.
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
