#!/usr/bin/env bash
# The end-to-end tests that stop the API server or the operator, and the operator's own tests against an API server.
# lane: cluster
# needs: test-build programs 15-images
# after: 60-cluster
# limit: 1200
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=/dev/null
. tests/e2e/lib/stage.sh

cluster_up outages
status=0
tests/cluster/run tests/e2e/run --group alone | tee "$STAGE_DIR/result" || status=1
read -r passed _ failed _ < <(tail -n 1 "$STAGE_DIR/result")
# The operator's own tests against an API server: what it makes of the objects that the operator applies.
# Its result lines must not be taken for those of this stage.
if tests/cluster/run cargo test --quiet --offline --locked --workspace --lib apply::tests::real -- --ignored | sed 's/^test result/result/'; then
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
