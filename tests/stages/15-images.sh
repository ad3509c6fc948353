#!/usr/bin/env bash
# The images for the stages with a cluster, in target/test-images. That of the server is optimised: in a debug build, clients and shards
# of tests side by side need more CPU than two cores have, and are late. The operator needs little, and four minutes to optimise.
# lane: cluster
# needs: jars
# limit: 1800
set -euo pipefail
cd "$(dirname "$0")/../.."

images=${CARGO_TARGET_DIR:-target}/test-images
rm -rf "$images"
tests/images/build --out "$images" server
tests/images/build --profile dev --out "$images" operator
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    echo "skipped: needs Java 17 and Maven"
    exit 77
fi
tests/kafka/image "$images/kafka.tar"
