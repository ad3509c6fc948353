# shellcheck shell=bash
# What nobody planned, under load: a shard and a gateway killed by SIGKILL, a shard that is out of memory, one that stops answering, a
# broker that restarts during a rollout, the API server away during one. Clients come back and miss nothing.
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
need_rig "a signal to a pod's process"
serving '{"drain": {"evictRate": 100}}'

restarted() { (($(k get pod "$1" -o jsonpath='{.status.containerStatuses[0].restartCount}') > $2)); }
killed() { # POD COMMAND…
    local restarts pod=$1
    shift
    restarts=$(k get pod "$pod" -o jsonpath='{.status.containerStatuses[0].restartCount}')
    "$@" "$pod"
    # Six probes, and the grace period of the probe.
    wait_for 80 "a restart of $pod" restarted "$pod" "$restarts"
    settled prices
}
out_of_memory() { tests/cluster/oom "$namespace" "$1"; }
# An attempt that is under way towards what dies may fail; its client tries again.
attempts=100
through "shard kill -9" prices 300 killed prices-1 signal KILL
through "shard OOM" prices 300 killed prices-2 out_of_memory
same OOMKilled "$(k get pod prices-2 -o jsonpath='{.status.containerStatuses[0].lastState.terminated.reason}')" "the end of prices-2"
through "shard SIGSTOP, until its liveness probe" prices 300 killed prices-0 signal STOP
serving_killed() {
    tests/cluster/signal --children KILL "$namespace" "$1"
    wait_for 30 "an end of its tunnels" lost_some "$name"
}
through "gateway kill -9 (what serves, not its master)" prices 300 serving_killed "$(pod_of prices gateway)"
# Until kube-proxy has heard, half of those who come back are sent to a pod where nobody listens, and refused.
attempts=1000
through "gateway pod kill -9 (all that runs in it)" prices 300 killed "$(pod_of prices gateway)" signal KILL
attempts=0

round=0
rollout_with() { # COMMAND…: once the first shard is new
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
broker_restart() {
    local restarts
    restarts() { kubectl --namespace $kafka_namespace get pod kafka-0 -o jsonpath='{.status.containerStatuses[0].restartCount}'; }
    restarts=$(restarts)
    kubectl --namespace $kafka_namespace exec kafka-0 -- /bin/sh -c 'kill 1'
    more() { (($(restarts) > restarts)); }
    wait_for 60 "a restart of the broker" more
    kafka
}
through "Kafka broker restart during a rollout" prices 300 rollout_with broker_restart

api_away() {
    trap 'tests/cluster/component start kube-apiserver; at_end' EXIT
    tests/cluster/component stop kube-apiserver
    sleep 15
    tests/cluster/component start kube-apiserver
    answers() { kubectl --request-timeout=2s get --raw /readyz; }
    wait_for 60 "an API server" answers
}
through "API server away for 15 s during a rollout" prices 300 rollout_with api_away
