# shellcheck shell=bash
# The definition in a real API server: it is accepted, every case of the table gets the verdict that our own code gives, and kubectl
# finds short names, columns, scale and explain.
. tests/e2e/lib.sh

kubectl apply --server-side --force-conflicts -f crds/wscluster.yaml
# Polled, since kubectl fails at once where there are no conditions yet.
wait_for 30 "the established definition" \
    kubectl wait --for=condition=Established crd/wsclusters.wscluster.dev --timeout=1s
conditions=$(kubectl get crd wsclusters.wscluster.dev -o jsonpath='{.status.conditions[?(@.type=="NonStructuralSchema")].message}')
same "" "$conditions" "what is not structural in the schema"

local_port "$scratch/proxy" kubectl proxy --port=0
mapfile -t clusters < <(grep -l "^kind: WsCluster$" manifests/*.yaml)
"$(tests/crd/build)" "http://127.0.0.1:$port" operator/api/tests/cases.yaml "${clusters[@]}"

k apply -f manifests/quickstart.yaml
same wscluster.wscluster.dev/prices "$(k get wsc prices -o name)" "the object by its short name"
header=$(k get wsc | sed -n 1p)
for column in SHARDS READY CONNECTIONS CAPACITY USED PHASE AGE; do
    grep -qw "$column" <<<"$header" || fail "kubectl get wsc has no column $column"
done
k scale wsc/prices --replicas=5
same 5 "$(k get wsc prices -o jsonpath='{.spec.shards}')" "spec.shards after kubectl scale"
grep -q DESCRIPTION < <(kubectl explain wscluster.spec.shards) || fail "kubectl explain knows no spec.shards"

# Status is a subresource: a change of the whole object leaves it alone. A dry run, since an operator may write at the same time.
patched() { k patch wsc prices --dry-run=server -o jsonpath='{.status.connections}' --type=merge "$@"; }
same 7 "$(patched --subresource=status -p '{"status":{"connections":7}}')" "connections after a change of the status"
[[ $(patched -p '{"status":{"connections":8},"spec":{"shards":3}}') != 8 ]] || fail "a change of the object changed its status"
