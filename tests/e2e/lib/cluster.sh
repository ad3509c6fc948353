# shellcheck shell=bash
# The operator, Kafka and a WsCluster for a test. Sourced after lib.sh. All tests share one operator and, unless they call own_kafka,
# one Kafka, where each has a topic of its own.

system=wscluster-system
kafka_namespace=e2e-kafka
kafka=kafka.$kafka_namespace.svc:9092
# The topic and the default name of the cluster under test.
topic=$namespace

# with_images MANIFEST: prints it with the images under test.
with_images() {
    sed -E "s#^( *image: )[\"']?[^ \"']*wscluster-operator[:@][^ \"']*[\"']?\$#\\1$WSCLUSTER_OPERATOR_IMAGE#
        s#^( *image: )[\"']?[^ \"']*wscluster[:@][^ \"']*[\"']?\$#\\1$WSCLUSTER_IMAGE#
        s#--image=[^ \"']*#--image=$WSCLUSTER_IMAGE#" "$1"
}

operator_pods() { kubectl --namespace $system get pods -l app.kubernetes.io/name=wscluster-operator "$@"; }

# operator: installs it, unless tests/e2e/run has for tests that run side by side, and waits for all its replicas.
operator() {
    [[ -z ${WSCLUSTER_E2E_PREPARED:-} ]] || return 0
    with_images manifests/operator.yaml | kubectl apply --server-side --force-conflicts -f crds/ -f - >/dev/null
    wait_for 30 "the established definition" \
        kubectl wait --for=condition=Established crd/wsclusters.wscluster.dev --timeout=1s
    kubectl --namespace $system rollout status deployment/wscluster-operator --timeout=60s
}

# own_kafka: from here on the test uses a Kafka in its own namespace, which it may disturb.
own_kafka() {
    kafka_namespace=$namespace
    kafka=kafka.$kafka_namespace.svc:9092
}

# broker: installs Kafka, unless tests/e2e/run has, and waits for it.
broker() {
    [[ -z ${WSCLUSTER_E2E_PREPARED:-} || $kafka_namespace == "$namespace" ]] || return 0
    kubectl create namespace "$kafka_namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
    kubectl --namespace "$kafka_namespace" apply -f "$WSCLUSTER_KAFKA_MANIFEST" >/dev/null
    kubectl --namespace "$kafka_namespace" rollout status statefulset/kafka --timeout=180s
}

# kafka: a broker with the topic of this test. The pod's memory is enough for one command at a time beside the broker.
kafka() {
    broker
    flock "${WSCLUSTER_E2E_LOCK:-$scratch/lock}" kubectl --namespace "$kafka_namespace" exec kafka-0 -- \
        /opt/kafka/bin/kafka-topics.sh --bootstrap-server localhost:9092 --create --if-not-exists --topic "$topic" --partitions 3 >/dev/null
}

# pod NAME ARGUMENT…: a pod that runs wscluster once. Without a request it would get next to no CPU beside the pods of other tests.
pod() {
    k apply -f - >/dev/null <<END
apiVersion: v1
kind: Pod
metadata: { name: $1 }
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 60
  automountServiceAccountToken: false
  securityContext: { runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }
  containers:
    - name: wscluster
      image: $WSCLUSTER_IMAGE
      imagePullPolicy: IfNotPresent
      args: $(printf '%s\n' "${@:2}" | jq -Rcn '[inputs]')
      resources: { requests: { cpu: 50m, memory: 32Mi } }
      securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }
END
}
phase_of() { k get pod "$1" -o jsonpath='{.status.phase}' | grep -E "$2" >/dev/null; }

# wsc NAME [JSON]: applies a WsCluster of three small shards and two gateways, with JSON merged into its spec.
wsc() {
    jq -n --arg name "$1" --arg broker "$kafka" --arg topic "$topic" --argjson more "${2:-{\}}" '
        {cpu: "10m", memory: "32Mi"} as $least |
        {imagePullPolicy: "IfNotPresent", workers: 1, resources: {requests: $least, limits: {memory: "256Mi"}}} as $part |
        {
            apiVersion: "wscluster.dev/v1alpha1", kind: "WsCluster", metadata: {name: $name},
            spec: ({
                shards: 3, capacity: 160,
                source: {kafka: {
                    brokers: [$broker], topics: [{name: $topic, channel: "{key}.trade"}],
                    history: {window: "60s", maxBytes: "16Mi"}
                }},
                gateway: {replicas: 2},
                drain: {evictRate: 50, deadline: "60s", retryAfter: {min: "100ms", max: "1s"}},
                template: {shard: $part, gateway: $part}
            } * $more)
        }' | k apply --server-side --field-manager=e2e -f - >/dev/null
}

# edit NAME JSON: merged into the spec of a WsCluster.
edit() { k patch wsc "$1" --type=merge -p "{\"spec\":$2}" >/dev/null; }

# status NAME [PATH]: of a WsCluster, as jq reads it.
status() { k get wsc "$1" -o json | jq -r ".status${2:-}"; }

# condition NAME TYPE: "Status Reason: message", or nothing.
condition() {
    k get wsc "$1" -o json | jq -r --arg type "$2" \
        '.status.conditions[]? | select(.type == $type) | "\(.status) \(.reason): \(.message)"'
}

# says NAME TYPE REGEX: whether a condition matches and is about the current spec.
says() {
    k get wsc "$1" -o json | jq -e --arg type "$2" --arg pattern "$3" '.metadata.generation as $now |
        .status.conditions[]? | select(.type == $type and .observedGeneration == $now) |
        "\(.status) \(.reason): \(.message)" | test($pattern; "i")' >/dev/null
}

# ready NAME [SECONDS]: waits for the condition Ready.
ready() {
    k wait --for=condition=Ready "wsc/$1" --timeout="${2:-90}s" >/dev/null || {
        k get wsc "$1" -o yaml
        fail "wsc/$1 is not Ready after ${2:-90} s"
    }
}

# settled NAME [SECONDS]: waits until it is ready and no change is in progress.
settled() {
    local end=$((SECONDS + ${2:-90}))
    ready "$1" "${2:-90}"
    wait_for $((end > SECONDS ? end - SECONDS : 1)) "the end of the change of wsc/$1" says "$1" Progressing '^False'
}

# reachable NAME: waits until its Service leads to a gateway: kube-proxy needs a moment after the pods are ready.
reachable() {
    pod "$1-first" load --url "ws://$1-gateway.$namespace.svc:8080/ws" --connections 1 --hold 0s --retry 100 --retry-max 1s
    wait_for 60 "a first client of wsc/$1" phase_of "$1-first" 'Succeeded|Failed'
    phase_of "$1-first" Succeeded || fail "the first client of wsc/$1 was not served: $(k logs "$1-first")"
    k delete pod "$1-first" --wait=false >/dev/null
}

# serving [JSON]: operator, Kafka and the WsCluster prices, with JSON merged into its spec; waits until all are at rest.
serving() {
    operator
    kafka
    wsc prices "$@"
    settled prices
    reachable prices
}

pods() { k get pods -l "app.kubernetes.io/instance=$1,app.kubernetes.io/component=$2" "${@:3}"; }
pod_of() { pods "$1" "$2" -o name | sed -n "1s#.*/##p"; }
uid_of() { k get pod "$1" -o jsonpath='{.metadata.uid}' 2>/dev/null || true; }
# uids NAME PART: of its pods, sorted.
uids() { pods "$1" "$2" -o jsonpath='{range .items[*]}{.metadata.uid}{"\n"}{end}' | sort; }
# old NAME PART UIDS: those of UIDS that still exist; all_new: whether none does. Both fail without an API server.
old() {
    local now
    now=$(uids "$1" "$2") && comm -12 <(echo "$3") <(echo "$now")
}
all_new() {
    local old
    old=$(old "$@") && [[ -z $old ]]
}
replaced() { local now && now=$(uid_of "$1") && [[ -n $now && $now != "$2" ]]; }

# events NAME: the events of a WsCluster, "Reason: message", oldest first.
events() {
    k get events --field-selector "involvedObject.kind=WsCluster,involvedObject.name=$1" -o json |
        jq -r '.items | sort_by(.lastTimestamp // .eventTime)[] | "\(.reason): \(.message // .note)"'
}
told() { events "$1" | grep -iE "$2" >/dev/null; }

# skip WHY: ends the test, which this cluster cannot run.
skip() { echo "skipped: $*" && exit 77; }
need_rig() { [[ -n ${WSCLUSTER_RIG:-} ]] || skip "$1 needs the node of tests/cluster"; }

# signal SIGNAL POD: sends it to the processes of a pod; only on a node of tests/cluster.
signal() { tests/cluster/signal "$1" "$namespace" "$2"; }
