# shellcheck shell=bash
# The programs of the node: starting, finding and stopping one. Comments give the reason for flags that differ from a kubeadm cluster.

# Exists since the API server was stopped; see refresh.
api_was_away=$state/api-was-away

services=(etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

# launch NAME COMMAND…: runs it in the node, as a child of its first process.
launch() {
    local name=$1
    shift
    in_node setsid --fork "$@" >>"$logs/$name.log" 2>&1 </dev/null 8>&- 9>&-
}

# The id of a program in the namespace of the caller. Only the PID namespace of the node is searched, not those of pods. The kernel
# keeps 15 bytes of a name.
service_pid() { pgrep --ns "$init" --nslist pid --exact "${1:0:15}" | head -n 1 || true; }

service_gone() { [[ -z $(service_pid "$1") ]]; }

# stop_service NAME [SIGNAL]: SIGKILL after 5 s, since on SIGTERM an API server serves its watches for another minute.
stop_service() {
    local pid end=$((SECONDS + 5))
    pid=$(service_pid "$1")
    [[ -n $pid ]] || return 0
    kill "-${2:-TERM}" "$pid"
    while ((SECONDS < end)); do
        service_gone "$1" && return 0
        sleep 0.1
    done
    kill -KILL "$pid"
    wait_for 10 "end of $1" service_gone "$1"
}

start_service() {
    case $1 in
        etcd) start_etcd ;;
        containerd) launch containerd containerd --config "$state/etc/containerd.toml" ;;
        kube-apiserver) start_apiserver ;;
        kube-controller-manager) start_controllers ;;
        kube-scheduler) start_scheduler ;;
        kubelet)
            launch kubelet "$bin/kubelet" --config="$state/etc/kubelet.yaml" --kubeconfig="$pki/kubelet.kubeconfig" \
                --hostname-override="$node" --node-ip="$node_ip"
            ;;
        kube-proxy) launch kube-proxy "$bin/kube-proxy" --config="$state/etc/kube-proxy.yaml" ;;
        *) die "no such program: $1; there are ${services[*]}" ;;
    esac
}

# Without fsync a start takes a third of the time, and the data is not needed after a crash.
start_etcd() {
    launch etcd "$bin/etcd" --name="$node" --data-dir=/var/lib/etcd --unsafe-no-fsync=true \
        --listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379 \
        --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
        --initial-cluster="$node=http://127.0.0.1:2380" --listen-metrics-urls=http://127.0.0.1:2381 \
        --client-cert-auth=true --trusted-ca-file="$pki/etcd-ca.crt" \
        --cert-file="$pki/etcd.crt" --key-file="$pki/etcd.key"
}

# The audit log has the calls of every service account: the RBAC tests read it.
start_apiserver() {
    launch kube-apiserver "$bin/kube-apiserver" --advertise-address="$node_ip" --secure-port=6443 \
        --etcd-servers=https://127.0.0.1:2379 --etcd-cafile="$pki/etcd-ca.crt" \
        --etcd-certfile="$pki/apiserver-etcd-client.crt" --etcd-keyfile="$pki/apiserver-etcd-client.key" \
        --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --kubelet-certificate-authority="$pki/ca.crt" --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" \
        --kubelet-client-key="$pki/apiserver-kubelet-client.key" --kubelet-preferred-address-types=InternalIP \
        --service-account-issuer="https://kubernetes.default.svc.$domain" \
        --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
        --service-cluster-ip-range="$service_cidr" --authorization-mode=Node,RBAC \
        --enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false \
        --requestheader-client-ca-file="$pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key" \
        --audit-policy-file="$here/config/audit.yaml" --audit-log-path="$logs/audit.log"
}

# No election: there is one of each, and a start soon after a stop would wait 15 s for the lease.
secured() {
    echo --bind-address=127.0.0.1 --leader-elect=false --profiling=false \
        "--kubeconfig=$pki/$1.kubeconfig" "--authentication-kubeconfig=$pki/$1.kubeconfig" \
        "--authorization-kubeconfig=$pki/$1.kubeconfig" "--tls-cert-file=$pki/$1.crt" "--tls-private-key-file=$pki/$1.key" \
        "--client-ca-file=$pki/ca.crt" "--requestheader-client-ca-file=$pki/front-proxy-ca.crt"
}

start_controllers() {
    local flags
    read -ra flags < <(secured controllers)
    launch kube-controller-manager "$bin/kube-controller-manager" "${flags[@]}" \
        --allocate-node-cidrs=true --cluster-cidr="$pod_cidr" --service-cluster-ip-range="$service_cidr" \
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" --root-ca-file="$pki/ca.crt" \
        --service-account-private-key-file="$pki/sa.key" --use-service-account-credentials=true
}

start_scheduler() {
    local flags
    read -ra flags < <(secured scheduler)
    launch kube-scheduler "$bin/kube-scheduler" "${flags[@]}"
}
