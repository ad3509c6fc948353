#!/usr/bin/env bash
# The soak in a two-minute form: honest, slow and hostile clients together, and what they leave behind. Logs: target/bench.
# lane: soak
# needs: build
set -euo pipefail
cd "$(dirname "$0")/../.."

"$(dirname "$WSCLUSTER")/wscluster-bench" soak --minutes 2 --connections 300
