#!/usr/bin/env bash
# The images for the stages with a cluster, in target/test-images, from the build of the tests.
# lane: cluster
# needs: build jars
set -euo pipefail
cd "$(dirname "$0")/../.."

images=${CARGO_TARGET_DIR:-target}/test-images
rm -rf "$images"
tests/images/build --profile dev --out "$images"
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    echo "skipped: needs Java 17 and Maven"
    exit 77
fi
tests/kafka/image "$images/kafka.tar"
