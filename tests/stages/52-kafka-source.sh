#!/usr/bin/env bash
# The source against a real Kafka (server/kafka/src/tests/broker.rs): history by time, partitions that are added, topics that are
# recreated (for the tester's audit too), retention that overtakes, transactions, codecs, logins and refused logins.
# apt: default-jdk-headless maven openssl
# limit: 900
set -euo pipefail
cd "$(dirname "$0")/../.."

exec tests/kafka/run --secure cargo test --locked --workspace --lib -- --ignored --test-threads 2 tests::broker topic::real
