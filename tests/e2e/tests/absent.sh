# shellcheck shell=bash
# Without an operator the data plane heals itself: a shard and a gateway that are killed come back, and clients lose nothing.
# A change in progress completes even if its operator is replaced, or killed at random moments.
# group: alone
# takes: 110
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
trap 'operator >/dev/null; at_end' EXIT # later tests need it
serving

nobody() { [[ -z $(operator_pods -o name) ]]; }
without_operator() {
    local pod
    kubectl --namespace $system scale deployment/wscluster-operator --replicas=0 >/dev/null
    wait_for 60 "the operators' end" nobody
    for pod in "$(pod_of prices shard)" "$(pod_of prices gateway)"; do
        k delete pod "$pod" --grace-period=0 --force >/dev/null 2>&1
    done
    whole() {
        [[ $(k get statefulset prices -o jsonpath='{.status.readyReplicas}') == 3 &&
            $(k get deployment prices-gateway -o jsonpath='{.status.readyReplicas}') == 2 ]]
    }
    # Before that, the status may still be the old one.
    wait_for 30 "lost connections" lost_some "$name"
    wait_for 60 "three shards and two gateways" whole
}
# A client whose gateway is gone may try its address once more before kube-proxy removes it.
attempts=60 through "operator down; a shard and a gateway killed" prices 300 without_operator
operator

replaced_too() {
    local before first
    first=$(operator_pods -o name)
    before=$(uids prices shard)
    edit prices '{"template": {"shard": {"annotations": {"example.com/round": "2"}}}}'
    kubectl --namespace $system rollout restart deployment/wscluster-operator >/dev/null
    kubectl --namespace $system rollout status deployment/wscluster-operator --timeout=60s
    wait_for 120 "new shards" all_new prices shard "$before"
    settled prices
    [[ -z $(comm -12 <(sort <<<"$first") <(operator_pods -o name | sort)) ]] || fail "an operator was not replaced"
}
through "operator rollout during a rollout of shards" prices 300 replaced_too
gentle "clients-$audiences" 50

seed=${WSCLUSTER_SEED:-$RANDOM}
echo "WSCLUSTER_SEED=$seed"
RANDOM=$seed
restless() {
    local begin=$SECONDS
    edit prices '{"shards": 5}'
    while ((SECONDS < begin + 12)); do
        sleep "$((RANDOM % 3)).$((RANDOM % 10))"
        operator_pods -o name | shuf -n 1 --random-source=<(yes "$RANDOM") |
            xargs -r kubectl --namespace $system delete --grace-period=0 --force >/dev/null 2>&1
        ((SECONDS < begin + 5)) || edit prices '{"shards": 2}'
    done
    settled prices 150
    same 2 "$(k get statefulset prices -o jsonpath='{.spec.replicas}')" "shards after the change"
}
through "scale 3→5→2, operator killed at random moments" prices 300 restless
