# shellcheck shell=bash
# Accidents under load: a shard and a gateway killed by SIGKILL, a shard out of memory, one that stops answering, a broker that
# restarts during a rollout. Clients come back and lose nothing.
# takes: 170
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
need_rig "a signal to a pod's process"
own_kafka
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
# A handshake with a process that dies may fail; its client tries again.
attempts=100
through "shard kill -9" prices 300 killed prices-1 signal KILL
through "shard OOM" prices 300 killed prices-2 out_of_memory
same OOMKilled "$(k get pod prices-2 -o jsonpath='{.status.containerStatuses[0].lastState.terminated.reason}')" "the end of prices-2"
through "shard SIGSTOP, until its liveness probe" prices 300 killed prices-0 signal STOP
serving_killed() {
    tests/cluster/signal --children KILL "$namespace" "$1"
    wait_for 30 "an end of its tunnels" lost_some "$name"
}
through "gateway kill -9 (without its master)" prices 300 serving_killed "$(pod_of prices gateway)"
# Until kube-proxy removes the pod, it sends half of the returning clients there, and they are refused.
attempts=1000
through "gateway pod kill -9 (all its processes)" prices 300 killed "$(pod_of prices gateway)" signal KILL
attempts=0

broker_restart() {
    local restarts
    restarts() { kubectl --namespace "$kafka_namespace" get pod kafka-0 -o jsonpath='{.status.containerStatuses[0].restartCount}'; }
    restarts=$(restarts)
    kubectl --namespace "$kafka_namespace" exec kafka-0 -- /bin/sh -c 'kill 1'
    more() { (($(restarts) > restarts)); }
    wait_for 60 "a restart of the broker" more
    kafka
}
through "Kafka broker restart during a rollout" prices 300 rollout_with broker_restart
