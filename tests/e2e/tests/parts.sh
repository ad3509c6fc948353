# shellcheck shell=bash
# A shard and a gateway as single pods while Kafka is away: both are alive, neither is ready, the shard reports its state, a client
# gets a 503 with a reason, and both end within their grace period.
. tests/e2e/lib.sh

k create configmap manifest --from-file=cluster.yaml=manifests/quickstart.yaml

# part NAME ARGUMENTS: a pod with the probes and the security settings that the operator gives to its pods.
part() {
    k apply -f - <<EOF
apiVersion: v1
kind: Pod
metadata: { name: $1 }
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 30
  securityContext: { runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }
  containers:
    - name: $1
      image: $WSCLUSTER_IMAGE
      imagePullPolicy: IfNotPresent
      resources: { requests: { cpu: 20m, memory: 32Mi } }
      args: [$2]
      livenessProbe: { httpGet: { path: /livez, port: 9090 }, periodSeconds: 1 }
      readinessProbe: { httpGet: { path: /readyz, port: 9090 }, periodSeconds: 1 }
      securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }
      volumeMounts: [{ name: manifest, mountPath: /etc/wscluster, readOnly: true }]
  volumes: [{ name: manifest, configMap: { name: manifest } }]
EOF
    wait_for 60 "pod $1" running "$1"
}
running() { [[ $(k get pod "$1" -o jsonpath='{.status.phase}') == Running ]]; }
of() { k get pod "$1" -o jsonpath="{$2}"; }
gone() { [[ -z $(k get pods -o name) ]]; }
status_of() { curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' "$1"; }

part shard 'shard, -f, /etc/wscluster/cluster.yaml, --name, prices-0, --brokers, "kafka-is-away:9092"'
address=$(of shard .status.podIP)
local_port "$scratch/shard" kubectl --namespace "$namespace" port-forward pod/shard :9090
same 200 "$(status_of "http://127.0.0.1:$port/livez")" "/livez of the shard"
same 503 "$(status_of "http://127.0.0.1:$port/readyz")" "/readyz of the shard"
health=$(curl --silent --max-time 5 "http://127.0.0.1:$port/health")
grep -q '"state":"starting"' <<<"$health" || fail "a shard without Kafka should be starting, but: $health"
same false "$(of shard .status.containerStatuses[0].ready)" "the shard's readiness in Kubernetes"

part gateway "gateway, -f, /etc/wscluster/cluster.yaml, --shard, \"prices-0=$address:8080,$address:9090\""
local_port "$scratch/gateway" kubectl --namespace "$namespace" port-forward pod/gateway :8080
answer=$(curl --silent --include --http1.1 --max-time 20 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' "http://127.0.0.1:$port/ws" | tr -d '\r')
grep -q '^HTTP/1.1 503 ' <<<"$answer" || fail "a client should get 503, but: $answer"
grep -qiE '^retry-after: [1-9][0-9]*$' <<<"$answer" || fail "no Retry-After in: $answer"
grep -qiE '^x-wscluster-reason: [a-z_]+$' <<<"$answer" || fail "no reason in: $answer"

# Never restarted, and they end on SIGTERM, without a SIGKILL at the end of the grace period.
for name in shard gateway; do
    same 0 "$(of $name .status.containerStatuses[0].restartCount)" "restarts of the $name"
    k delete pod $name --wait=false
done
wait_for 20 "the end of both" gone
