#!/usr/bin/env bash
# The Kafka source against real brokers (server/kafka/src/tests/broker): history by time, partitions that are added, topics that are
# recreated (for the tester's audit too), retention that overtakes the reader, transactions, codecs, accepted and refused logins.
# lane: wait
# needs: test-build jars
# apt: openjdk-17-jre-headless maven openssl
# limit: 900
set -euo pipefail
cd "$(dirname "$0")/../.."

exec tests/kafka/run --secure cargo test --locked --workspace --lib -- --ignored --test-threads 2 tests::broker topic::real
