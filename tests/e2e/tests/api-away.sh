# shellcheck shell=bash
# The API server stops during a rollout, which completes after it; then for a minute: clients notice nothing, new ones are served,
# and afterwards the operator and the gateways continue.
# group: alone
# takes: 190
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
need_rig "stopping the API server"
serving '{"drain": {"evictRate": 100}}'

trap 'tests/cluster/component start kube-apiserver; at_end' EXIT
answers() { kubectl --request-timeout=2s get --raw /readyz; }
away_for() { # SECONDS
    tests/cluster/component stop kube-apiserver
    sleep "$1"
    tests/cluster/component start kube-apiserver
    wait_for 60 "an API server" answers
}
away_during_rollout() { away_for 15; }
through "API server down for 15 s during a rollout" prices 300 rollout_with away_during_rollout
# What is part of Kubernetes may take more than a minute to recover, which is not under test.
tests/cluster/refresh
settled prices

# Clients connect and leave all the time. Without an API server they cannot be stopped, so they end by themselves.
load clients --url "ws://prices-gateway.$namespace.svc:8080/ws" --connections 200 --rate 200 --churn 10 --hold 75s \
    --channels 'K{0..9}.trade' --brokers "$kafka" --topic "$topic" --publish-rate 50 --retry 100
wait_for 60 "200 clients" live clients 200
restarts=$(k get pods -o jsonpath='{.items[*].status.containerStatuses[*].restartCount}')
away_for 60
tests/cluster/refresh

# The operator carries out an edit, and the gateways find the new shard.
edit prices '{"shards": 4}'
settled prices 90
wait_for 60 "the clients' end" phase_of clients 'Succeeded|Failed'
k logs clients >"$scratch/clients"
echo 'nobody 0 0' >"$scratch/slots" # there was no API server to ask the gateways through
row clients "API server down for 60 s" "-" 60
unharmed clients
same "$restarts 0" "$(k get pods -o jsonpath='{.items[*].status.containerStatuses[*].restartCount}')" "restarts of all pods"

load later --url "ws://prices-gateway.$namespace.svc:8080/ws" --connections 400 --rate 200 --hold 10m
wait_for 60 "400 clients" live later 400
new_shard() { (($(status prices '.members[] | select(.ordinal == 3) | .connections') > 50)); }
wait_for 30 "clients on the new shard" new_shard
