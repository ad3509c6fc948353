#!/usr/bin/env bash
# The Autobahn test suite for RFC 6455 against /echo of a shard: every case must pass strictly.
# Cases 12.* and 13.* are left out: permessage-deflate (RFC 7692), which the shard does not offer.
# lane: wait
# needs: build
set -euo pipefail
cd "$(dirname "$0")/../.."

"$WSCLUSTER" shard -f manifests/quickstart.yaml --echo --listen 127.0.0.1:0 --admin 127.0.0.1:0 \
    >"$STAGE_DIR/listening" 2>"$STAGE_DIR/log" &
shard=$!
trap 'kill $shard 2>/dev/null || true' EXIT
for _ in {1..100}; do
    address=$(sed -n 's/.*"ws":"\([^"]*\)".*/\1/p' "$STAGE_DIR/listening")
    [[ -n $address ]] && break
    sleep 0.1
done
[[ -n $address ]] || { cat "$STAGE_DIR/log" && exit 1; }

kosoku -p 4 -x '12.*' -x '13.*' -o "$STAGE_DIR/report" "$address/echo"
# kosoku accepts "NON-STRICT", which in 6.4.* means that invalid UTF-8 was not refused at once.
results=$(grep -E '"behavior(Close)?":' "$STAGE_DIR/report/index.json")
bad=$(grep -cvE '"(OK|INFORMATIONAL)"' <<<"$results") || true
cases=$(grep -c '"behavior":' <<<"$results")
((cases >= 301)) || { echo "only $cases cases were run" && exit 1; }
if ((bad > 0)); then
    grep -E -B 1 -A 4 '"behavior(Close)?": "(NON-STRICT|FAILED|UNIMPLEMENTED|WRONG CODE|UNCLEAN)"' "$STAGE_DIR/report/index.json"
fi
kill "$shard"
wait "$shard" || { echo "the shard ended with an error:" && cat "$STAGE_DIR/log" && exit 1; }
echo "$((cases - bad)) passed, $bad failed"
((bad == 0))
