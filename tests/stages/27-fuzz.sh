#!/usr/bin/env bash
# The fuzz targets on stable Rust, one and a half minutes of CPU. The commit determines the inputs.
# lane: compute
# needs: build
# limit: 1200
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
seed=$((16#$(git rev-parse HEAD 2>/dev/null | cut -c1-8 || echo 1)))
status=0
tests/background "$target/debug/wscluster-fuzz" run --seed "$seed" --failures "$target/fuzz" || status=$?
if ((status > 1)); then
    echo "A target ended the process; to find its input: wscluster-fuzz run --seed $seed --keep-last FILE TARGET"
fi
exit "$status"
