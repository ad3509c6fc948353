#!/usr/bin/env bash
# The end-to-end tests that install or remove the operator, or count all that it does: on a cluster of their own.
# lane: wait
# needs: build programs 15-images 28-metrics
# after: 60-cluster
# limit: 900
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=/dev/null
. tests/e2e/lib/stage.sh

cluster_up install
tests/cluster/run tests/e2e/run --group install
