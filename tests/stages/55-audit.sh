#!/usr/bin/env bash
# The short delivery audit: brokers, a shard, a gateway and the link to Kafka fail under load; no delivery is lost.
# lane: wait
# needs: build jars
# apt: openjdk-17-jre-headless maven openssl procps util-linux iproute2 iptables
# limit: 400
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ $(id -u) != 0 ]] || ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    echo "skipped: needs root, Java 17 and Maven"
    exit 77
fi
if ! unshare --net true 2>/dev/null; then
    echo "skipped: no network namespaces here"
    exit 77
fi
tests/audit/run --debug --short
