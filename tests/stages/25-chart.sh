#!/usr/bin/env bash
# The chart and the manifests without a cluster: lint, the objects rendered in each mode, values that must be refused, what a new
# version may change, and whether the files generated from the chart are up to date.
# lane: go
# needs: build programs
# apt: zstd
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/go-at-least 26 || exit 77

chart=charts/wscluster passed=0 failed=0
check() { # WHAT CMD…
    local what=$1
    shift
    if "$@" >"$STAGE_DIR/out" 2>&1; then
        passed=$((passed + 1))
    else
        echo "FAIL  $what"
        cat "$STAGE_DIR/out"
        failed=$((failed + 1))
    fi
}
helm() { tests/chart/helm "$@"; }
helm version --short
template() { helm template wscluster "${2:-$chart}" --namespace wscluster-system "${@:3}" >"$STAGE_DIR/$1.yaml"; }

# --- Syntax ---

mapfile -t written < <(git ls-files --cached --others --exclude-standard \
    ':(glob)charts/wscluster/*.yaml' ':(glob)manifests/*.yaml' ':!manifests/operator.yaml' kind-config.yaml)
check "yamllint" yamllint --strict "${written[@]}"
check "lint" helm lint --strict "$chart"
check "lint for GKE" helm lint --strict "$chart" --values "$chart/values-gke.yaml"

# --- The rendered objects refer to each other correctly and have only fields of Kubernetes ---

# Validates the built-in kinds against the schemas of Kubernetes, without unknown fields. Stage 20 validates the CRD.
known() {
    python3 - "$1" >"$1.known" <<'END'
import sys, yaml
ours = ("wscluster.dev", "monitoring.", "networking.gke.io", "gateway.networking.k8s.io", "cloud.google.com", "keda.sh", "apiextensions.k8s.io")
objects = [o for o in yaml.safe_load_all(open(sys.argv[1])) if o and not o["apiVersion"].startswith(ours)]
yaml.safe_dump_all(objects, sys.stdout)
END
    kubernetes-validate -k 1.34 --strict --quiet "$1.known"
}
rendered() { # NAME ARGUMENT…
    template "$1" "$chart" "${@:2}" && python3 tests/chart/check.py "$STAGE_DIR/$1.yaml" && known "$STAGE_DIR/$1.yaml"
}
topics='cluster.spec.source.kafka.topics[0].channel={key},cluster.spec.source.kafka.topics[0].name=t,cluster.spec.source.kafka.brokers={k:9092}'
check "the defaults" rendered default
check "namespaced" rendered namespaced --set 'namespaces={a,b},network.metricsNamespaces={m,*}' --set monitoring.googleCloud=true --set monitoring.prometheusOperator=true
check "one replica, bare" rendered bare --set replicas=1,crds.install=false,rbac.aggregate=false,serviceAccount.name=me
check "all settings of the pod" rendered pod --set 'imagePullSecrets={a},priorityClassName=p,tolerations[0].key=k,nodeSelector.n=m' \
    --set 'affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=t,podLabels.l=m,podAnnotations.a=b,podAnnotations.kubectl\.kubernetes\.io/default-container=b,network.metricsNamespaces={*},image.digest=sha256:'"$(printf '%064d' 0)" \
    --set 'topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].topologyKey=z,topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule'
check "GKE with a Gateway" rendered gateway --values "$chart/values-gke.yaml"
check "GKE with an Ingress" rendered ingress --values "$chart/values-gke.yaml" \
    --set gke.entry=ingress,gke.certificate.map=,gke.certificate.managed=true,cluster.spec.gateway.service.port=80
check "GKE with a Gateway for all hosts of a domain" rendered hosts --values "$chart/values-gke.yaml" --set 'gke.host=*.example.com'
check "GKE with an Ingress for all hosts of a domain" rendered hosts-ingress --values "$chart/values-gke.yaml" \
    --set 'gke.entry=ingress,gke.host=*.example.com,gke.certificate.map=,gke.certificate.secret=tls'
check "names that YAML takes for something else" rendered names --namespace 123 --values "$chart/values-gke.yaml" \
    --set-string 'namespaces={123},cluster.name=true,serviceAccount.name=1,priorityClassName=2,imagePullSecrets={3},gke.certificate.map=4' \
    --set-string 'test.channel=5,log.filter=a: b,podAnnotations.a=6'
for null in spec spec.gateway spec.gateway.service spec.gateway.service.{port,annotations}; do
    check "GKE with an Ingress and a null in $null" rendered "null-$null" --values "$chart/values-gke.yaml" \
        --set "gke.entry=ingress,gke.certificate.managed=true,test.channel=c,cluster.$null=null"
done
check "a test that publishes" rendered test --set "$topics" --set cluster.create=true,cluster.namespace=prices \
    --set 'test.channel=BTC.trade,test.publish.enabled=true,test.publish.brokers={k:9092},test.publish.topic=t,test.publish.key=BTC: #1' \
    --set 'imagePullSecrets={a,b},cluster.spec.template.shard.imagePullSecrets[0].name=b,cluster.spec.template.gateway.imagePullSecrets[0].name=c'
check "the manifests" kubernetes-validate -k 1.34 --strict --quiet manifests/{kafka,client,hpa}.yaml

# has NAME TEXT, lacks NAME TEXT: whether the rendered file NAME contains TEXT.
has() { grep -qF -- "$2" "$STAGE_DIR/$1.yaml"; }
lacks() { ! has "$@"; }
test_has_secrets() {
    python3 -c 'import sys, yaml
pod = next(o for o in yaml.safe_load_all(open(sys.argv[1])) if o and o["kind"] == "Pod")["spec"]
sys.exit([s["name"] for s in pod["imagePullSecrets"]] != ["a", "b", "c"])' "$STAGE_DIR/test.yaml"
}
check "no cluster-wide rights when namespaced" lacks namespaced 'kind: ClusterRoleBinding'
check "namespaces are passed on" has namespaced '- --namespace=b'
check "the CRD is kept" has default 'helm.sh/resource-policy: keep'
check "no CRD" lacks bare 'kind: CustomResourceDefinition'
check "no budget for one replica" lacks bare 'kind: PodDisruptionBudget'
check "the digest goes before the tag" has pod 'wscluster-operator@sha256:'
check "a WebSocket may last a day" has gateway 'timeoutSec: 86400'
check "a key is passed on unchanged" has test '"--key=BTC: #1"'
check "the test has the pull secrets of its image" test_has_secrets
check "one default container, the requested one" test 1 = "$(grep -c 'kubectl.kubernetes.io/default-container: ' "$STAGE_DIR/pod.yaml")"
check "no test without a channel" lacks default 'helm.sh/hook: test'

# The commands in the notes use a namespace that the operator watches. Helm renders notes only with a cluster, so here a template puts
# them into a field of an object.
cp -rL "$chart" "$STAGE_DIR/noted"
echo '{{ dict "notes" (include "wscluster/templates/NOTES.txt" .) | toYaml }}' >"$STAGE_DIR/noted/templates/notes.yaml"
notes() { # NAMESPACE ARGUMENT…
    template notes "$STAGE_DIR/noted" --show-only templates/notes.yaml "${@:2}"
    python3 -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["notes"])' "$STAGE_DIR/notes.yaml" >"$STAGE_DIR/notes"
    grep -q "kubectl -n $1 apply" "$STAGE_DIR/notes" && grep -q "kubectl -n $1 wait" "$STAGE_DIR/notes"
}
check "the notes" notes wscluster-system
check "the notes when namespaced" notes a --set 'namespaces={a,b}'
check "the notes for a namespace" notes b --set 'namespaces={a,b},cluster.namespace=b'

# The operator of this checkout accepts the arguments that the chart gives it: an unknown one is an error even with --help.
takes_arguments() {
    local arguments
    mapfile -t arguments < <(python3 -c 'import sys, yaml
pod = next(o for o in yaml.safe_load_all(open(sys.argv[1])) if o and o["kind"] == "Deployment")["spec"]["template"]["spec"]
print(*pod["containers"][0]["args"], sep="\n")' "$1")
    ((${#arguments[@]} > 4)) && "${WSCLUSTER%/*}/wscluster-operator" "${arguments[@]}" --help
}
for mode in default namespaced gateway; do
    check "the operator's arguments, $mode" takes_arguments "$STAGE_DIR/$mode.yaml"
done

# The WsCluster that the chart renders from cluster.spec, judged by the code of an API server.
one() {
    python3 -c 'import sys, yaml
yaml.safe_dump(next(o for o in yaml.safe_load_all(open(sys.argv[1])) if o and o["kind"] == "WsCluster"), sys.stdout)' "$1" >"$1.cluster"
    "$(tests/crd/build)" crds/wscluster.yaml operator/api/tests/cases.yaml "$1.cluster"
}
check "the WsCluster of values-gke.yaml" one "$STAGE_DIR/gateway.yaml"
check "the WsCluster of an Ingress" one "$STAGE_DIR/ingress.yaml"

# --- Values that are refused, with an error that names them ---

refused() { # PATTERN ARGUMENT…
    local answer
    ! answer=$(helm template wscluster "$chart" "${@:2}" 2>&1) || { echo "accepted" && return 1; }
    grep -qE -- "$1" <<<"$answer" || { echo "the error does not match $1: $answer" && return 1; }
}
while read -r pattern arguments; do
    read -ra words <<<"$arguments"
    check "refused: $arguments" refused "$pattern" "${words[@]}"
done <<'END'
replica --set replica=3
tags --set image.tags=x
replicas --set-string replicas=2
replicas --set replicas=-1
pullPolicy --set image.pullPolicy=Sometimes
repository --set image.repository=
digest --set image.digest=sha256:1
namespaces --set namespaces={Not_A_Name}
enabled --set crds.enabled=true
keep --set-string crds.keep=true
interval --set monitoring.interval=30
serviceMonitor --set monitoring.serviceMonitor=true
limit --set resources.limit.cpu=1
memory --set resources.limits.memory=much
ports --set affinity.ports=1
tolerations --set tolerations[0].keys=x
propertyName --set podLabels.app\.kubernetes\.io/name=x
drainLag --set-string network.drainLag=15
format --set log.format=xml
name --set cluster.name=Prices
name --set cluster.name=1p
entry --set gke.entry=loadbalancer
timeoutSeconds --set gke.timeoutSeconds=0
brokers --set test.publish.brokers={kafka}
gke\.host.is.empty --set gke.entry=gateway
gke\.healthCheck\.timeoutSeconds.is.60 --set gke.entry=gateway,gke.host=a.example,gke.healthCheck.timeoutSeconds=60
gke\.certificate.is.empty --set gke.entry=gateway,gke.host=a.example
gke\.certificate.is.empty --set gke.entry=ingress,gke.host=a.example
gke\.certificate\.managed.is.true --set gke.entry=ingress,gke.host=*.a.example,gke.certificate.managed=true
host --set gke.entry=ingress,gke.host=*a.example
cluster\.spec\.shard.is.no.field --set cluster.create=true,cluster.spec.shard=3
cluster\.spec\.source\.kafka\.topics\[0\]\.chanel.is.no.field --set cluster.create=true,cluster.spec.source.kafka.topics[0].chanel=x
cluster\.spec\.template\.shard\.resources\.limit.is.no.field --set cluster.create=true,cluster.spec.template.shard.resources.limit.cpu=1
namespace.elsewhere,.where.this.operator.does.not.look --set namespaces={a,b},cluster.namespace=elsewhere
namespace.default,.where.this.operator.does.not.look --set namespaces={a,b},cluster.create=true
test\.publish\.brokers.is.empty --set test.channel=c,test.publish.enabled=true
test\.publish\.topic.is.empty --set test.channel=c,test.publish.enabled=true,test.publish.brokers={k:9092}
END

# values.yaml and its schema have the same keys, and each key has a description.
check "schema and values have the same keys" python3 - <<'END'
import json, sys, yaml
schema = json.load(open("charts/wscluster/values.schema.json"))
def keys(node, path=""):
    for name, child in node.get("properties", {}).items():
        assert child.get("description"), f"{path}{name} has no description"
        if child.get("properties"):
            yield from keys(child, f"{path}{name}.")
        else:
            yield path + name
def leaves(value, path=""):
    for name, child in value.items():
        if isinstance(child, dict) and child:
            yield from leaves(child, f"{path}{name}.")
        else:
            yield path + name
wanted = {k for k in keys(schema) if k != "global" and not k.startswith(("affinity.", "resources."))} | {"affinity", "resources.limits.memory", "resources.requests.cpu", "resources.requests.memory"}
found = set(leaves(yaml.safe_load(open("charts/wscluster/values.yaml"))))
sys.exit(f"only in one of both: {sorted(wanted ^ found)}" if wanted != found else 0)
END

# --- What an upgrade may change ---

cp -rL "$chart" "$STAGE_DIR/newer"
sed -i 's/^version: .*/version: 9.9.9+build.1/; s/^appVersion: .*/appVersion: 9.9.9+build.1/' "$STAGE_DIR/newer/Chart.yaml"
template newer "$STAGE_DIR/newer"
template image "$chart" --set image.tag=newer
same() { diff <(grep -vE "$3" "$STAGE_DIR/$1.yaml") <(grep -vE "$3" "$STAGE_DIR/$2.yaml"); }
check "a version that is not a valid label value" python3 tests/chart/check.py "$STAGE_DIR/newer.yaml"
check "a new version of the chart changes only labels, and none of a pod" same default newer '^    (helm\.sh/chart|app\.kubernetes\.io/version): '
check "a new image of the operator changes none of its arguments" same default image '^          image: '

# --- Names in docs/kubernetes.md exist ---

# Reasons such as `NameTaken` and kinds such as `WsCluster`.
reasons() {
    local reason missing=()
    # shellcheck disable=SC2016 # Markdown's backticks
    for reason in $(grep -oE '`[A-Z][a-z]+([A-Z][a-z]+)+`' docs/kubernetes.md | tr -d '`' | sort -u); do
        grep -rqE "\"$reason\"|(struct|enum) $reason\b" operator/ || grep -rqw "kind: $reason" charts/ manifests/ || missing+=("$reason")
    done
    ((${#missing[@]} == 0)) || { echo "only in docs/kubernetes.md: ${missing[*]}" && return 1; }
}
check "docs/kubernetes.md names only reasons and kinds that exist" reasons

# --- Generated files ---

check "manifests/operator.yaml and the rights in docs/kubernetes.md" tests/chart/render --check
check "the objects of manifests/operator.yaml refer to each other" python3 tests/chart/check.py manifests/operator.yaml
cp manifests/operator.yaml "$STAGE_DIR/operator.yaml"
check "manifests/operator.yaml has only fields of Kubernetes" known "$STAGE_DIR/operator.yaml"

echo "$passed passed, $failed failed"
((failed == 0))
