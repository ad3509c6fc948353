#!/usr/bin/env bash
# A real Kubernetes (tests/cluster) with the images of this checkout, and the end-to-end tests in it.
# apt: conntrack containerd containernetworking-plugins curl ethtool gcc iproute2 ipset iptables libc6-dev openssl procps runc socat util-linux zstd
# limit: 2700
set -euo pipefail
cd "$(dirname "$0")/../.."

go_minor=$(GOTOOLCHAIN=local go version 2>/dev/null | sed -n 's/.* go1\.\([0-9]*\).*/\1/p') || true
if [[ $(id -u) != 0 ]] || ((${go_minor:-0} < 26)); then
    echo "skipped: needs root and Go 1.26 or later"
    exit 77
fi

# A rig of this checkout's own, so that one that somebody is using stays as it is; what a killed run left is ended first.
WSCLUSTER_RIG=stage-$(pwd | sha256sum | cut -c1-8)
export WSCLUSTER_RIG
trap 'tests/cluster/down 2>/dev/null' EXIT

# What needs the network comes first: there is none in the rig.
tests/crd/build >/dev/null
tests/images/build --profile dev --out "$STAGE_DIR"
tests/cluster/up --fresh
tests/cluster/load-image "$STAGE_DIR"/*.tar
status=0
tests/cluster/run tests/e2e/run | tee "$STAGE_DIR/result" || status=1
read -r passed _ failed _ < <(tail -n 1 "$STAGE_DIR/result")

# However the rig ends, nothing of it stays: not a process, a mount, a cgroup or a file.
title="wscluster-rig /tmp/wscluster-rig-$WSCLUSTER_RIG"
kill -KILL "$(pgrep --exact --full "$title")"
tests/cluster/down
left=$(
    pgrep --list-full --full "wscluster-rig-$WSCLUSTER_RIG" || true
    grep "wscluster-rig-$WSCLUSTER_RIG" /proc/self/mountinfo || true
    find /sys/fs/cgroup /tmp -maxdepth 2 -name "wscluster-rig-$WSCLUSTER_RIG*"
)
if [[ -z $left ]]; then
    passed=$((passed + 1))
else
    echo "left behind: $left"
    failed=$((failed + 1)) status=1
fi
echo "$passed passed, $failed failed"
exit "$status"
