#!/usr/bin/env bash
# The definition, the manifests and the table of specs, judged by an API server's own code (tests/crd).
set -euo pipefail
cd "$(dirname "$0")/../.."

go_minor=$(GOTOOLCHAIN=local go version 2>/dev/null | sed -n 's/.* go1\.\([0-9]*\).*/\1/p') || true
if ((${go_minor:-0} < 24)); then
    echo "skipped: needs Go 1.24 or later"
    exit 77
fi
mapfile -t clusters < <(grep -l "^kind: WsCluster$" manifests/*.yaml)
"$(tests/crd/build)" crds/wscluster.yaml operator/api/tests/cases.yaml "${clusters[@]}"
