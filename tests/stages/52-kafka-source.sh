#!/usr/bin/env bash
# The source against a real Kafka (server/src/kafka/real.rs): history by time, partitions that are added, topics that are
# recreated, retention that overtakes, transactions, codecs, logins and refused logins.
# apt: default-jdk-headless maven openssl
# limit: 900
set -euo pipefail
cd "$(dirname "$0")/../.."

exec tests/kafka/run --secure cargo test --locked -p wscluster --lib kafka::real -- --ignored --test-threads 2
