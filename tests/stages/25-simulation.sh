#!/usr/bin/env bash
# A hundred thousand clusters in virtual time, from seeds: edits and faults at any moment, and what must hold all the same.
# limit: 420
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
# This package alone is optimised in the dev profile (Cargo.toml).
cargo build --quiet --locked --workspace --bins
began=$SECONDS
"$target/debug/wscluster-simulation" run --seeds 100000
seconds=$((SECONDS - began))
if ((seconds > 120)); then
    echo "took $seconds s, 120 are allowed"
    exit 1
fi
"$target/debug/wscluster-simulation" mutants
