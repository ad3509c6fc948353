# shellcheck shell=bash
# kubectl drain of the node that has a shard, as its parts: the Eviction API takes a shard away, the disruption budget refuses a
# second one meanwhile, and no client loses a message.
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
serving

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
through "eviction of a shard (kubectl drain)" prices 300 one_after_another
gentle clients-1 50

gateway() {
    local pod
    pod=$(pod_of prices gateway)
    evict "$pod" >/dev/null || fail "the eviction of a gateway was refused"
    gone() { [[ -z $(uid_of "$pod") ]]; }
    wait_for 90 "the end of $pod" gone
    settled prices
}
through "eviction of a gateway" prices 300 gateway
