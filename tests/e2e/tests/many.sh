# shellcheck shell=bash
# 200 WsClusters at once: each gets its objects and a true status; at rest the operator writes nothing, sends few requests, and uses
# little memory. Their pods fit no node, since 400 of them would test this machine and not the operator.
# group: install
# takes: 150
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
operator
clusters=200

begin=$SECONDS
for ((n = 0; n < clusters; n++)); do
    cat <<END
---
apiVersion: wscluster.dev/v1alpha1
kind: WsCluster
metadata: { name: c$n }
spec:
  shards: 1
  gateway: { replicas: 1 }
  source: { kafka: { brokers: ["kafka-is-away:9092"], topics: [{ name: $topic, channel: "{key}.trade" }] } }
  template: { shard: { nodeSelector: { nowhere: here } }, gateway: { nodeSelector: { nowhere: here } } }
END
done >"$scratch/many.yaml"
k create -f "$scratch/many.yaml" >/dev/null
all_told() {
    k get wsc -o json | jq -e --argjson n "$clusters" '[.items[] | .metadata.generation as $now |
        select(any(.status.conditions[]?; .type == "Ready" and .status == "False" and .observedGeneration == $now))] | length == $n' >/dev/null
}
all_built() { (($(k get deployment,statefulset -o name | wc -l) == 2 * clusters)); }
wait_for 240 "objects of $clusters clusters" all_built
wait_for 120 "a status of $clusters clusters" all_told
report figures "$clusters WsClusters created at once: all have their objects and a status after $((SECONDS - begin)) s"

versions() { k get wsc -o json | jq -c '[.items[] | [.metadata.name, .metadata.resourceVersion]] | sort'; }
quiet() {
    local before
    before=$(versions)
    sleep 10
    [[ $before == "$(versions)" ]]
}
wait_for 120 "rest" quiet

leader=$(kubectl --namespace $system get lease wscluster-operator -o jsonpath='{.spec.holderIdentity}')
local_port "$scratch/forward" kubectl --namespace $system port-forward "pod/${leader%%_*}" :9090
# Requests to the API server, and those that write a status.
calls() { curl -s "http://127.0.0.1:$port/metrics" | awk -v with="$1" '/^wscluster_operator_api_requests_total\{/ && $0 ~ with { n += $2 } END { print n + 0 }'; }
before=$(versions) all=$(calls .) begin=$SECONDS
sleep 60
per_minute=$((($(calls .) - all) * 60 / (SECONDS - begin)))
same "$before" "$(versions)" "versions of $clusters clusters after a minute at rest"
memory=$(curl -s "http://127.0.0.1:$port/metrics" | awk '/^process_resident_memory_bytes/ { printf "%.1f", $2 / 1e6 }')
curl -s "http://127.0.0.1:$port/metrics" | tests/promtool check metrics || fail "promtool finds faults in the operator's metrics"
[[ -n $memory ]] || fail "the operator's metrics do not state its memory"
report figures "$clusters WsClusters at rest: the operator uses $memory MB of memory (resident), makes $per_minute API calls per minute and writes no status"
((per_minute <= 120)) || fail "$per_minute API calls a minute at rest"
awk -v m="$memory" 'BEGIN { exit !(m < 200) }' || fail "the operator holds $memory MB"
