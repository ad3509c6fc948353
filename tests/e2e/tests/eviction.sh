# shellcheck shell=bash
# Evictions, single ones and those of kubectl drain: the Eviction API removes a shard, the disruption budget refuses a second one
# meanwhile, kubectl drain moves all shards of a node one after another, and no client loses a message.
# takes: 90
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
serving "{\"template\": {\"shard\": {\"labels\": {\"example.com/drained\": \"$namespace\"}}}}"

evict() { # POD: the status code
    jq -n --arg name "$1" --arg namespace "$namespace" '{apiVersion: "policy/v1", kind: "Eviction", metadata: {$name, $namespace}}' |
        kubectl create --raw "/api/v1/namespaces/$namespace/pods/$1/eviction" -f - 2>&1
}
one_after_another() {
    local uid second
    uid=$(uid_of prices-2)
    evict prices-2 >/dev/null || fail "the eviction of a shard was refused: $(evict prices-2)"
    second=$(evict prices-1) && fail "a second shard was evicted while the first one was away"
    grep -q 'disruption budget' <<<"$second" || fail "not the budget refused the second eviction, but: $second"
    wait_for 90 "a new prices-2" replaced prices-2 "$uid"
    settled prices
}
through "eviction of a shard" prices 300 one_after_another
gentle clients-1 50

# A cordoned node accepts no pod, and there may be no other node: it is uncordoned once the first shard leaves. kubectl continues all
# the same, and tries each shard again until the budget allows its eviction.
drained() {
    local drain before
    before=$(pods prices shard --field-selector "spec.nodeName=$node" -o jsonpath='{range .items[*]}{.metadata.uid}{"\n"}{end}' | sort)
    kubectl drain "$node" --pod-selector="example.com/drained=$namespace" --ignore-daemonsets --delete-emptydir-data \
        --timeout=180s >"$scratch/drain" 2>&1 &
    drain=$!
    children+=("$drain")
    leaving() { pods prices shard -o json | jq -e 'any(.items[]; .metadata.deletionTimestamp)' >/dev/null; }
    wait_for 30 "a shard that leaves the node" leaving
    kubectl uncordon "$node"
    wait "$drain" || fail "kubectl drain: $(tail -n 3 "$scratch/drain")"
    wait_for 60 "new shards" all_new prices shard "$before"
    settled prices
}
node=$(k get pod prices-0 -o jsonpath='{.spec.nodeName}')
trap 'kubectl uncordon "$node"; at_end' EXIT
through "kubectl drain of a node with all shards" prices 300 drained
gentle "clients-$audiences" 50

gateway() {
    local pod
    pod=$(pod_of prices gateway)
    evict "$pod" >/dev/null || fail "the eviction of a gateway was refused"
    gone() { [[ -z $(uid_of "$pod") ]]; }
    wait_for 90 "the end of $pod" gone
    settled prices
}
through "eviction of a gateway" prices 300 gateway
