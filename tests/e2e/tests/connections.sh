# shellcheck shell=bash
# 3,000 connections through the cluster IP of the gateway Service to three shards: none fails, the shards hold the same number within
# 1 %, and the status shows them.
# takes: 50
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
operator
kafka
wsc prices '{"capacity": 1200}'
ready prices
reachable prices

address=$(k get service prices-gateway -o jsonpath='{.spec.clusterIP}')
load clients --url "ws://$address:8080/ws" --connections 3000 --rate 250 --hold 10m --channels 'K{0..9}.trade' --subscribe-per-client 1
wait_for 90 "3000 clients" live clients 3000
shown() { [[ $(status prices .connections) == 3000 ]]; }
wait_for 30 "3000 connections in the status" shown
k get wsc prices
status prices '.members[] | "\(.name) \(.connections)"'
same 3000 "$(status prices ' | [.members[].connections] | add')" "connections of all members"
status prices ' | [.members[].connections] | (max - min) * 100 <= max' | grep true >/dev/null || fail "the shards differ by more than 1 %"
leave clients
result clients | jq -e '.failed == 0 and .failed_attempts == 0 and .connected == 3000 and .dropped == 0' >/dev/null ||
    fail "not all were served: $(result clients | jq -c '{connected, failed, failed_attempts, dropped, failures, drops}')"
gone() { [[ $(status prices .connections) == 0 ]]; }
wait_for 30 "no connections in the status" gone
