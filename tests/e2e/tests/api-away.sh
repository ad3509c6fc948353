# shellcheck shell=bash
# The API server is stopped for a minute: clients notice nothing, new ones are served, and afterwards the operator and the
# gateways go on where they were.
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
need_rig "stopping the API server"
serving

answers() { kubectl --request-timeout=2s get --raw /readyz; }
trap 'tests/cluster/component start kube-apiserver; at_end' EXIT
# Clients leave and come all the time; nothing can be asked meanwhile, so they end by themselves.
load clients "ws://prices-gateway.$namespace.svc:8080/ws" --connections 200 --rate 200 --churn 10 --hold 75s \
    --channels 'K{0..9}.trade' --kafka "$kafka" --topic "$topic" --publish-rate 50 --retry 100
wait_for 60 "200 clients" live clients 200
restarts=$(k get pods -o jsonpath='{.items[*].status.containerStatuses[*].restartCount}')
tests/cluster/component stop kube-apiserver
sleep 60
tests/cluster/component start kube-apiserver
wait_for 60 "an API server" answers
# What is Kubernetes' own takes up to a minute and more to come back, which is not under test.
tests/cluster/refresh

# Both resume: the operator carries an edit out, the gateways learn of a shard that is new.
edit prices '{"shards": 4}'
settled prices 90
wait_for 60 "the clients' end" phase_of clients 'Succeeded|Failed'
k logs clients >"$scratch/clients"
echo 'nobody 0 0' >"$scratch/slots" # nobody could be asked
row clients "API server away for 60 s" "-" 60
unharmed clients
same "$restarts 0" "$(k get pods -o jsonpath='{.items[*].status.containerStatuses[*].restartCount}')" "restarts of all pods"

load later "ws://prices-gateway.$namespace.svc:8080/ws" --connections 400 --rate 200 --hold 10m
wait_for 60 "400 clients" live later 400
new_shard() { (($(status prices '.members[] | select(.ordinal == 3) | .connections') > 50)); }
wait_for 30 "clients on the new shard" new_shard
