# shellcheck shell=bash
# The operator repairs its objects at once; fields that people added stay; reconciling an unchanged cluster writes nothing; and
# kubectl delete wsc leaves nothing behind.
# takes: 100
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
serving

kinds=statefulset,deployment,service,configmap,serviceaccount,role,rolebinding,poddisruptionbudget,networkpolicy
owned() { k get $kinds -l app.kubernetes.io/instance=prices -o name | sort; }
before=$(owned)
echo "$before"
for object in statefulset.apps/prices service/prices-shards deployment.apps/prices-gateway service/prices-gateway \
    serviceaccount/prices-shard serviceaccount/prices-gateway role.rbac.authorization.k8s.io/prices-gateway \
    rolebinding.rbac.authorization.k8s.io/prices-gateway; do
    grep -qx "$object" <<<"$before" || fail "there is no $object"
done
for part in shard gateway; do
    config=$(grep -cE "^configmap/prices-$part-[0-9a-f]{10}$" <<<"$before") || true
    same 1 "$config" "ConfigMaps of the $part"
done
# Each is owned by the WsCluster, so its deletion removes them without a finalizer.
owner=$(k get wsc prices -o jsonpath='{.metadata.uid}')
k get $kinds -l app.kubernetes.io/instance=prices -o json | jq -e --arg owner "$owner" \
    'all(.items[]; any(.metadata.ownerReferences[]?; .uid == $owner and .controller))' >/dev/null || fail "an object has another owner"
same "" "$(k get wsc prices -o jsonpath='{.metadata.finalizers}')" "finalizers"

# Manual edits of fields that the operator sets.
k patch service prices-gateway --type=merge -p '{"spec":{"ports":[{"name":"ws","port":9999,"targetPort":8080}]}}' >/dev/null
k patch statefulset prices --type=merge -p '{"spec":{"replicas":1}}' >/dev/null
k patch deployment prices-gateway --type=json -p '[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"localhost/other:1"}]' >/dev/null
k delete "$(grep ^configmap/prices-shard- <<<"$before")" >/dev/null
k delete service prices-shards >/dev/null
k label service prices-gateway app.kubernetes.io/component=mine --overwrite >/dev/null
repaired() {
    [[ $(k get service prices-gateway -o jsonpath='{.spec.ports[*].port}') == 8080 &&
        $(k get service prices-gateway -o jsonpath='{.metadata.labels.app\.kubernetes\.io/component}') == gateway &&
        $(k get statefulset prices -o jsonpath='{.spec.replicas}') == 3 &&
        $(k get deployment prices-gateway -o jsonpath='{.spec.template.spec.containers[0].image}') == "$WSCLUSTER_IMAGE" &&
        $(owned) == "$before" ]]
}
wait_for 30 "the repair of all manual edits" repaired
settled prices 90

# Objects that it owns and does not need any more are removed, whatever their kind; objects with its labels and no owner stay.
orphan='{"metadata": {"namespace": "'$namespace'", "labels": {"app.kubernetes.io/name": "wscluster", "app.kubernetes.io/instance": "prices",
    "app.kubernetes.io/component": "shard", "app.kubernetes.io/managed-by": "wscluster-operator"}}}'
adopted=$(jq -n --argjson orphan "$orphan" --arg uid "$owner" '$orphan * {metadata: {ownerReferences: [{apiVersion: "wscluster.dev/v1alpha1",
    kind: "WsCluster", name: "prices", $uid, controller: true, blockOwnerDeletion: true}]}}')
jq -n --argjson orphan "$adopted" '
    {selector: {matchLabels: {old: "yes"}}} as $old |
    {metadata: {labels: {old: "yes"}}, spec: {containers: [{name: "c", image: "localhost/none:1"}]}} as $pod |
    [
        {apiVersion: "v1", kind: "ConfigMap"}, {apiVersion: "v1", kind: "Service", spec: {ports: [{port: 1}]}}, {apiVersion: "v1", kind: "ServiceAccount"},
        {apiVersion: "apps/v1", kind: "Deployment", spec: ($old + {replicas: 0, template: $pod})},
        {apiVersion: "apps/v1", kind: "StatefulSet", spec: ($old + {replicas: 0, serviceName: "old", template: $pod})},
        {apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", rules: []},
        {apiVersion: "rbac.authorization.k8s.io/v1", kind: "RoleBinding", roleRef: {apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "prices-old"}},
        {apiVersion: "policy/v1", kind: "PodDisruptionBudget", spec: $old}, {apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", spec: {podSelector: $old.selector}}
    ] | {apiVersion: "v1", kind: "List", items: map(. * $orphan * {metadata: {name: "prices-old"}})}' | k create -f - >/dev/null
jq -n --argjson orphan "$orphan" '{apiVersion: "v1", kind: "ConfigMap"} * $orphan * {metadata: {name: "prices-mine"}}' | k create -f - >/dev/null
cleared() { local left && left=$(owned) && ! grep -q 'prices-old$' <<<"$left"; }
wait_for 30 "the end of orphans" cleared
k get configmap prices-mine -o name >/dev/null || fail "a ConfigMap without an owner was removed"
k delete configmap prices-mine >/dev/null

# Manual edits of other fields, on objects of the operator.
k annotate service prices-gateway example.com/owner=somebody >/dev/null
k label statefulset prices example.com/team=feeds >/dev/null
k annotate wsc prices example.com/note=kept >/dev/null
edit prices '{"capacity": 170}'
settled prices 120
same somebody "$(k get service prices-gateway -o jsonpath='{.metadata.annotations.example\.com/owner}')" "an annotation of somebody else"
same feeds "$(k get statefulset prices -o jsonpath='{.metadata.labels.example\.com/team}')" "a label of somebody else"

# Nothing to change, nothing written, also after an event that makes the operator reconcile.
versions() { k get $kinds -l app.kubernetes.io/instance=prices --show-managed-fields -o json | jq -c '[.items[] | [.kind, .metadata.name, .metadata.generation, ((.metadata.managedFields // []) | map(select(.manager | test("wscluster"))) | map(.time))]]'; }
seen=$(versions)
k annotate wsc prices example.com/note=again --overwrite >/dev/null
sleep 3
same "$seen" "$(versions)" "what the operator wrote"

remove() {
    k delete wsc prices --wait >/dev/null
    bare() { [[ -z $(k get "$kinds,endpointslice,controllerrevision,replicaset,pod,lease" -l app.kubernetes.io/instance=prices -o name) ]]; }
    wait_for 120 "the end of all objects of the cluster" bare
}
audience clients prices 200
begin=$SECONDS
remove
took=$((SECONDS - begin))
leave clients
row clients "kubectl delete wsc (clients cannot return)" 50 "$took"
left=$(k get all,configmap,secret,serviceaccount,role,rolebinding,poddisruptionbudget,networkpolicy,endpointslice -o name |
    grep -vE '^(configmap/kube-root-ca.crt|serviceaccount/default|pod/clients)$' || true)
same "" "$left" "what is left in the namespace"
