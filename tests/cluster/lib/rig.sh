# shellcheck shell=bash
# Names, paths, deadlines, and finding the running rig. Sourced by every command; starts and changes nothing by itself.
#
# A rig is one process tree inside its own PID, mount, network and UTS namespaces. Its first process has a command line that no other
# process has. The rig is up while that process lives; when it ends, the kernel ends all others in the rig.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) # tests/cluster
# The repository.
# shellcheck disable=SC2034
repo=$(cd "$here/../.." && pwd)

kubernetes_version=v1.34.4

# Two rigs may run side by side under two names.
rig=${WSCLUSTER_RIG:-wsc}
state=${WSCLUSTER_RIG_STATE:-/tmp/wscluster-rig-$rig}
cache=${WSCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wscluster}/cluster
bin=$state/bin
logs=$state/logs
cgroup=/wscluster-rig-$rig
socket=$state/containerd.sock
title="wscluster-rig $state" # the exact command line of the first process

# The cluster's addresses exist inside the rig's network namespace only.
# shellcheck disable=SC2034
{
    node=node-0
    node_ip=10.200.0.10
    service_cidr=10.96.0.0/16
    api_ip=10.96.0.1
    dns_ip=10.96.0.10
    pod_cidr=10.244.0.0/16
    node_pod_cidr=10.244.0.0/24
    domain=cluster.local
}

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# seconds since $started, for progress lines
elapsed() { awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { printf "%5.1f s", b - a }'; }
started=$EPOCHREALTIME
step() { say "[$(elapsed)] $*"; }

# wait_for SECONDS WHAT COMMAND…: polls COMMAND until it succeeds; false at the deadline.
wait_for() {
    local seconds=$1 what=$2 end
    shift 2
    end=$((SECONDS + seconds))
    until "$@" >"$state/wait.out" 2>&1; do
        if ((SECONDS >= end)); then
            say "error: $what: not seen within $seconds s; last answer:"
            tail -n 5 "$state/wait.out" >&2
            return 1
        fi
        sleep 0.1
    done
}

need_root() { ((EUID == 0)) || die "the rig makes namespaces, so it must run as root (try: sudo -E $0)"; }

# lock NAME [SECONDS]: one up, down or build at a time. The file of the lock stays: if it were removed, two callers could each lock a
# file of that name. Processes that outlive the caller must not inherit descriptor 9 (nor 8, the standard error of up).
lock() {
    exec 9>"/tmp/.wscluster-$1.lock"
    flock --timeout "${2:-60}" 9 || die "another command has held the $1 lock for ${2:-60} s"
}

# The id of the first process in the namespace of the caller, or nothing.
rig_pid() { pgrep --exact --full "$title" | head -n 1 || true; }

need_rig() {
    init=$(rig_pid)
    [[ -n $init ]] || die "the cluster is not up; start it with $here/up"
}

# Runs a command like a client: in the network of the rig, with the files of the machine.
in_network() { nsenter --target "$init" --net -- "$@"; }

# Runs a command in all namespaces of the node.
in_node() { nsenter --target "$init" --mount --pid --net --uts -- "$@"; }

kubectl() { KUBECONFIG=$state/kubeconfig in_network "$bin/kubectl" "$@"; }
images() { timeout 120 ctr --address "$socket" --namespace k8s.io images "$@"; }

# pids_of NAMESPACE POD [CHILDREN]: the processes of a pod, without the one that only holds its namespaces. If CHILDREN is not empty,
# also without the first process of the container, number 1 in its PID namespace.
pids_of() {
    local uid pid file
    uid=$(kubectl --namespace "$1" get pod "$2" -o jsonpath='{.metadata.uid}')
    while read -r file; do
        pid=${file//[^0-9]/}
        [[ $(<"/proc/$pid/comm") != pause ]] || continue
        [[ -z ${3:-} || $(awk '/^NSpid:/ { print $NF }' "/proc/$pid/status") != 1 ]] || continue
        echo "$pid"
    done < <(grep -ls "$cgroup.*$uid" /proc/[0-9]*/cgroup)
}
