#!/usr/bin/env bash
# The end-to-end tests on a real Kubernetes (tests/cluster) that leave each other alone. They come after the stages with Kafka: those
# would make them late.
# lane: cluster
# needs: build programs 15-images
# after: 50-kafka 52-kafka-source 55-audit
# apt: conntrack containerd containernetworking-plugins curl ethtool gcc iproute2 ipset iptables jq libc6-dev maven openjdk-17-jre-headless openssl procps runc socat util-linux zstd
# limit: 1500
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=/dev/null
. tests/e2e/lib/stage.sh

cluster_up beside
tests/cluster/run tests/e2e/run --jobs 3 --group beside --group last
