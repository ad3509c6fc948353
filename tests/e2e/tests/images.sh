# shellcheck shell=bash
# The images as pods under the strictest policy: not root, read-only root file system, no capabilities. The operator prints the
# definition; the server runs a whole cluster and its demo (`local` writes only the manifests of its run, to the temporary folder),
# and clients in another pod receive its records.
. tests/e2e/lib.sh

strict='
      securityContext: { runAsNonRoot: true, seccompProfile: { type: RuntimeDefault } }
      automountServiceAccountToken: false'
container='
          imagePullPolicy: IfNotPresent
          resources: { requests: { cpu: 50m, memory: 32Mi } }
          securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }'

k apply -f - <<EOF
apiVersion: batch/v1
kind: Job
metadata: { name: operator }
spec:
  backoffLimit: 0
  template:
    spec:$strict
      restartPolicy: Never
      containers:
        - name: operator
          image: $WSCLUSTER_OPERATOR_IMAGE$container
          args: [crd]
EOF

k create configmap manifest --from-file=cluster.yaml=manifests/quickstart.yaml
k apply -f - <<EOF
apiVersion: apps/v1
kind: Deployment
metadata: { name: server }
spec:
  selector: { matchLabels: { app: server } }
  template:
    metadata: { labels: { app: server } }
    spec:$strict
      containers:
        - name: server
          image: $WSCLUSTER_IMAGE$container
          args: [local, -f, /etc/wscluster/cluster.yaml, --host, 0.0.0.0, --port, "8080", --demo, --output, json]
          readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }
          volumeMounts:
            - { name: manifest, mountPath: /etc/wscluster, readOnly: true }
            - { name: tmp, mountPath: /tmp }
      volumes:
        - { name: manifest, configMap: { name: manifest } }
        - { name: tmp, emptyDir: { sizeLimit: 1Mi } }
---
apiVersion: v1
kind: Service
metadata: { name: server }
spec:
  selector: { app: server }
  ports: [{ name: ws, port: 8080 }]
EOF

k wait --for=condition=Complete job/operator --timeout=60s
k logs job/operator >"$scratch/definition.yaml"
cmp crds/wscluster.yaml "$scratch/definition.yaml"

k rollout status deployment/server --timeout=60s

# Clients in a pod of the same image, through the Service. The first one tries until the address of the Service leads to the pod:
# kube-proxy needs a moment after the pod is ready. After it, no client may fail.
k apply -f - <<EOF
apiVersion: batch/v1
kind: Job
metadata: { name: clients }
spec:
  backoffLimit: 0
  template:
    spec:$strict
      restartPolicy: Never
      initContainers:
        - name: first
          image: $WSCLUSTER_IMAGE$container
          args: [tail, --url, "ws://server:8080/ws", --latest, --count, "1", --for, 30s, BTC.trade]
      containers:
        - name: load
          image: $WSCLUSTER_IMAGE$container
          args: [load, --url, "ws://server:8080/ws", --connections, "500", --rate, "250", --hold, 3s, --channels, BTC.trade,
            --fail-on, "failed>0", --fail-on, "connected<500", --fail-on, "messages.deliveries<500"]
EOF
ended() { k get job clients -o jsonpath='{.status.conditions[*].type}' | grep -E 'Complete|Failed'; }
wait_for 60 "the clients' end" ended
k logs job/clients --all-containers --prefix
grep -q Complete <<<"$(ended)" || fail "the clients were not served"

# From outside, through the API server: an upgrade request with curl (RFC 6455 §1.3 has this key and its answer). curl closes the open
# socket after 3 s.
local_port "$scratch/forward" kubectl --namespace "$namespace" port-forward service/server :8080
answer=$(curl --silent --include --no-buffer --http1.1 --max-time 3 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
    -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' "http://127.0.0.1:$port/ws" --output - |
    tr -d '\r\0' | sed -n 1,10p) || true
grep -q '^HTTP/1.1 101 ' <<<"$answer" || fail "no 101 through the gateway, but: $answer"
grep -qi '^sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=$' <<<"$answer" || fail "wrong accept key in: $answer"
