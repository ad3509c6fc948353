# shellcheck shell=bash
# The chart in a real cluster: install where only restricted pods are admitted, a WsCluster that belongs to the release, a
# `helm test` that receives nothing and must fail, an upgrade and a rollback that replace operators and no pod of a WsCluster, an
# uninstall that leaves other objects, and an operator for one namespace. Without Kafka: shards are alive and do not serve.
# group: install
# takes: 65
. tests/e2e/lib.sh
command -v helm >/dev/null || { echo "skipped: helm is not in PATH" && exit 77; }

# Only one operator may manage a WsCluster. The one that other tests share is removed; they install it again.
kubectl --namespace wscluster-system delete deployment wscluster-operator --ignore-not-found --wait >/dev/null

images=(--set "image.repository=${WSCLUSTER_OPERATOR_IMAGE%:*},image.tag=${WSCLUSTER_OPERATOR_IMAGE##*:}"
    --set "serverImage.repository=${WSCLUSTER_IMAGE%:*},serverImage.tag=${WSCLUSTER_IMAGE##*:}")
h() { helm --namespace "$namespace" "$@"; }
of_release() { kubectl get clusterroles,clusterrolebindings -l app.kubernetes.io/instance=e2e -o name; }
operators() { k get pods -l app.kubernetes.io/name=wscluster-operator -o name; }
uids() { k get pods -l app.kubernetes.io/name=wscluster -o jsonpath='{range .items[*]}{.metadata.name}={.metadata.uid}{"\n"}{end}'; }
# built NAME: whether the operator has created all objects of the WsCluster, and its status shows that.
built() { [[ $(k get wsc "$1" -o jsonpath='{.status.shards}') == 2 ]] && (($(k get pods -l "app.kubernetes.io/instance=$1" -o name | wc -l) == 4)); }
gone() { [[ -z $(k get pods -l "app.kubernetes.io/instance=$1" -o name) ]]; }
small='{"workers": 1, "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}}'
spec='{"shards": 2, "template": {"shard": '$small', "gateway": '$small'},
    "source": {"kafka": {"brokers": ["kafka-is-away:9092"], "topics": [{"name": "t", "channel": "{key}.trade"}]}}}'

# The definition may exist already, without Helm's labels.
h install e2e charts/wscluster "${images[@]}" --take-ownership --wait --timeout 90s
same 2 "$(operators | wc -l)" "operators"

h upgrade e2e charts/wscluster "${images[@]}" --wait --timeout 90s --set cluster.create=true,test.channel=NOTHING.trade,test.timeoutSeconds=5 \
    --set-json "cluster.spec=$spec"
# The lease of another release may have to expire first.
wait_for 60 "the objects of the WsCluster of the release" built prices
! h test e2e --timeout 60s || fail "helm test passed without a message"
k get pod prices-receive-test -o name

# --- A new version of the chart, and a rollback: new operators, the same pods ---

k apply -f - <<END
{"apiVersion": "wscluster.dev/v1alpha1", "kind": "WsCluster", "metadata": {"name": "kept"}, "spec": $spec}
END
wait_for 30 "the objects of another WsCluster" built kept
before=$(uids)
first=$(operators)
newer_chart
h upgrade e2e "$scratch/newer" --reuse-values --set podAnnotations.test=newer --wait --timeout 120s
[[ $(operators) != "$first" ]] || fail "the upgrade replaced no operator"
same wscluster-9.9.9 "$(kubectl get crd wsclusters.wscluster.dev -o jsonpath='{.metadata.labels.helm\.sh/chart}')" "the chart that the definition is from"
h rollback e2e 2 --wait --timeout 120s
# Once a change has been carried out, the leading new operator has reconciled every cluster.
k patch wsc kept --type=merge -p '{"spec": {"paused": true}}'
paused() { [[ $(k get wsc kept -o jsonpath='{.status.conditions[?(@.type=="Paused")].status}') == True ]]; }
wait_for 60 "a pause, from the operator that was rolled back to" paused
same "$before" "$(uids)" "pods of shards and gateways after upgrade and rollback"

# --- An uninstall removes the WsCluster of the release, and leaves others and the definition ---

h uninstall e2e --wait --timeout 60s
wait_for 90 "the end of prices" gone prices
same "" "$(of_release)" "rights that are left"
same kept "$(k get wsc -o jsonpath='{.items[*].metadata.name}')" "WsClusters that are left"
same "$(grep ^kept <<<"$before")" "$(uids)" "pods without an operator"

# --- An operator for one namespace ---

h install e2e charts/wscluster "${images[@]}" --wait --timeout 90s \
    --set "namespaces={$namespace},crds.install=false,rbac.aggregate=false"
same "" "$(of_release)" "rights everywhere"
k patch wsc kept --type=merge -p '{"spec": {"paused": false}}'
running() { [[ $(k get wsc kept -o jsonpath='{.status.conditions[?(@.type=="Paused")].status}') == False ]]; }
wait_for 60 "the end of the pause" running
h uninstall e2e --wait --timeout 60s
