#!/usr/bin/env bash
# The CRD, the manifests and the table of specs, judged by the code of a Kubernetes API server (tests/crd).
# lane: go
# needs: programs
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/go-at-least 24 || exit 77
mapfile -t clusters < <(grep -l "^kind: WsCluster$" manifests/*.yaml)
"$(tests/crd/build)" crds/wscluster.yaml operator/api/tests/cases.yaml "${clusters[@]}"
