# shellcheck shell=bash
# From an empty cluster to the first message at a client, by the steps of README.md with kubectl.
# group: install
# takes: 25
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/quickstart.sh

nothing_of_ours
install() { with_images manifests/operator.yaml | kubectl apply --server-side -f crds/ -f - >/dev/null; }
first_message kubectl install
