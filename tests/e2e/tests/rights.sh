# shellcheck shell=bash
# Compares the rights of the operator's and the gateways' accounts with their calls, in this test and all before it (the audit log of
# the API server): no call was refused, every right was used.
# group: last
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
need_rig "the audit log"
operator
kafka
wsc prices '{"shards": 1, "gateway": {"replicas": 1}}'
ready prices

rules() { kubectl get clusterroles,clusterrolebindings,roles,rolebindings --all-namespaces -o json >"$scratch/rules.json"; }
rules
echo "the operator:"
tests/e2e/lib/rights.py "$scratch/rules.json" "$WSCLUSTER_AUDIT_LOG" "^$system:wscluster-operator$" "^$namespace:prices-gateway$"
echo "the gateways:"
tests/e2e/lib/rights.py "$scratch/rules.json" "$WSCLUSTER_AUDIT_LOG" "^e2e-.*:prices-gateway$"
echo "the shards, which have no token:"
grep -E '"username":"system:serviceaccount:e2e-[^"]*-shard"' "$WSCLUSTER_AUDIT_LOG" && fail "a shard talked to the API server"
exit 0
