# shellcheck shell=bash
# The number of shards follows the connections: by spec.autoscale, with spec.rebalance for a new shard, and by a HorizontalPodAutoscaler
# through the scale subresource. Clients that stay while others connect and leave lose no message.
# takes: 130
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh

# 70 % of 160: two shards for 150 clients, three for 300.
serving '{
    "autoscale": {"min": 2, "max": 4, "scaleUp": {"lead": "0s"}, "scaleDown": {"window": "10s", "interval": "5s"}},
    "rebalance": {"maxImbalance": 20, "evictRate": 50, "budget": 100}
}'
same 2 "$(status prices .readyShards)" "shards of a cluster without clients"

shards() { [[ $(status prices .readyShards) == "$1" && $(status prices .shards) == "$1" ]]; }
balanced() { status prices | jq -e '[.members[].connections] | length == 3 and min >= 0.8 * max' >/dev/null; }
guests_come_and_go() {
    load guests --url "ws://prices-gateway.$namespace.svc:8080/ws" --connections 150 --rate 100 --hold 10m --channels K0.trade --retry 100 --retry-max 2s
    wait_for 60 "150 guests" live guests 150
    wait_for 60 "a third shard" shards 3
    wait_for 90 "connections on it like on the others" balanced
    told prices '^Rebalancing' || fail "no Event says that connections move to the new shard"
    k delete pod guests --wait=false >/dev/null
    wait_for 90 "the result of the guests" result guests
    wait_for 120 "two shards" shards 2
    settled prices
    same 0 "$(result guests | jq '.failed + .failed_attempts')" "failed handshakes of the guests"
}
through "autoscaling 2→3→2, with rebalancing" prices 150 guests_come_and_go
gentle clients-1 50

# The HPA controller uses the scale subresource. It needs no metric to keep the number within its bounds.
k patch wsc prices --type=json -p '[{"op": "remove", "path": "/spec/autoscale"}, {"op": "remove", "path": "/spec/rebalance"}]' >/dev/null
settled prices
bounds() { # SHARDS
    jq -n --argjson shards "$1" '{
        apiVersion: "autoscaling/v2", kind: "HorizontalPodAutoscaler", metadata: {name: "prices"},
        spec: {
            scaleTargetRef: {apiVersion: "wscluster.dev/v1alpha1", kind: "WsCluster", name: "prices"},
            minReplicas: $shards, maxReplicas: $shards
        }
    }' | k apply -f - >/dev/null
}
by_hpa() {
    bounds 4
    wait_for 60 "four shards" shards 4
    # Neither another edit nor the operator resets the number.
    edit prices '{"gateway": {"service": {"annotations": {"example.com/note": "kept"}}}}'
    settled prices
    same 4 "$(k get wsc prices -o jsonpath='{.spec.shards}')" "shards that the HPA asks for"
    bounds 2
    wait_for 90 "two shards" shards 2
    settled prices
}
through "HorizontalPodAutoscaler 3→4→2" prices 150 by_hpa
gentle clients-2 50
k get hpa prices -o json | jq -e 'any(.status.conditions[]; .type == "AbleToScale" and .status == "True")' >/dev/null ||
    fail "the HPA is not able to scale: $(k get hpa prices -o json | jq -c .status.conditions)"
