#!/usr/bin/env bash
# A real Kubernetes (tests/cluster) with the images of this checkout, and the end-to-end tests in it.
# apt: conntrack containerd containernetworking-plugins curl ethtool gcc iproute2 ipset iptables jq libc6-dev maven openjdk-17-jre-headless openssl procps runc socat util-linux zstd
# limit: 3600
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
cargo test --quiet --locked --workspace --lib --no-run
tests/images/build --profile dev --out "$STAGE_DIR"
tests/kafka/image "$STAGE_DIR/kafka.tar"
export WSCLUSTER_KAFKA_MANIFEST=$STAGE_DIR/kafka.yaml
tests/cluster/up --fresh
tests/cluster/load-image "$STAGE_DIR"/*.tar
status=0
tests/cluster/run tests/e2e/run | tee "$STAGE_DIR/result" || status=1
read -r passed _ failed _ < <(tail -n 1 "$STAGE_DIR/result")
# What this API server makes of the objects that the operator applies.
if tests/cluster/run cargo test --quiet --offline --locked --workspace --lib apply::tests::real -- --ignored; then
    passed=$((passed + 1))
else
    failed=$((failed + 1)) status=1
fi

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
