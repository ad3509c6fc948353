#!/usr/bin/env bash
# A hundred thousand clusters in virtual time, from seeds: edits and faults at any moment, and the rules that must hold all the same.
# Then each part is broken on purpose, which the rules must notice.
# needs: build
# limit: 2400
set -euo pipefail
cd "$(dirname "$0")/../.."

# This package alone is optimised in the dev profile (Cargo.toml).
simulation=${CARGO_TARGET_DIR:-target}/debug/wscluster-simulation
TIMEFORMAT='%U %S'
{ time tests/background "$simulation" run --seeds 100000 >&3 2>&1; } 3>&1 2>"$STAGE_DIR/cpu"
# CPU time, since other stages run at the same time. Alone on two cores, 240 s of it take two minutes.
seconds=$(awk '{ printf "%d", $1 + $2 }' "$STAGE_DIR/cpu")
echo "$seconds s of CPU"
if ((seconds > 240)); then
    echo "240 s are allowed"
    exit 1
fi
tests/background "$simulation" mutants
