#!/usr/bin/env bash
# The Autobahn test suite for RFC 6455 against /echo of a shard, directly and through a gateway at the same time: every case must
# pass strictly. Cases 12.* and 13.* are left out: permessage-deflate (RFC 7692), which the shard does not offer.
# lane: wait
# needs: build
set -euo pipefail
cd "$(dirname "$0")/../.."

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT

# start NAME COMMAND...: waits for the line with its addresses and puts that for clients into $ws, that for the admin into $admin.
start() {
    local name=$1
    # The loop below may read it before the process begins.
    : >"$STAGE_DIR/$name.listening"
    "$WSCLUSTER" "${@:2}" -f manifests/quickstart.yaml --listen 127.0.0.1:0 --admin 127.0.0.1:0 \
        >"$STAGE_DIR/$name.listening" 2>"$STAGE_DIR/$name.log" &
    pids+=($!)
    for _ in {1..100}; do
        ws=$(sed -n 's/.*"ws":"\([^"]*\)".*/\1/p' "$STAGE_DIR/$name.listening")
        admin=$(sed -n 's/.*"admin":"\([^"]*\)".*/\1/p' "$STAGE_DIR/$name.listening")
        [[ -z $ws ]] || return 0
        sleep 0.1
    done
    cat "$STAGE_DIR/$name.log"
    return 1
}

start shard shard --echo
shard=$ws
start gateway gateway --shard "echo=$shard,$admin"
gateway=$ws
for _ in {1..100}; do
    curl -fsS "http://$admin/readyz" >/dev/null 2>&1 && break
    sleep 0.1
done

runs=()
for target in "shard $shard" "gateway $gateway"; do
    read -r name address <<<"$target"
    kosoku -p 2 -x '12.*' -x '13.*' -o "$STAGE_DIR/$name" "$address/echo" >"$STAGE_DIR/$name.run" 2>&1 &
    runs+=($!)
done
for run in "${runs[@]}"; do
    wait "$run" || { cat "$STAGE_DIR"/*.run && exit 1; }
done

passed=0 failed=0
for name in shard gateway; do
    report=$STAGE_DIR/$name/index.json
    # kosoku accepts "NON-STRICT", which in 6.4.* means that invalid UTF-8 was not refused at once.
    results=$(grep -E '"behavior(Close)?":' "$report")
    bad=$(grep -cvE '"(OK|INFORMATIONAL)"' <<<"$results") || true
    cases=$(grep -c '"behavior":' <<<"$results")
    ((cases >= 301)) || { echo "$name: only $cases cases were run" && exit 1; }
    echo "$name: $cases cases, $bad of them failed"
    if ((bad > 0)); then
        grep -E -B 1 -A 4 '"behavior(Close)?": "(NON-STRICT|FAILED|UNIMPLEMENTED|WRONG CODE|UNCLEAN)"' "$report"
    fi
    passed=$((passed + cases - bad)) failed=$((failed + bad))
done
kill "${pids[@]}"
for pid in "${pids[@]}"; do
    wait "$pid" || { echo "a process ended with an error:" && cat "$STAGE_DIR"/*.log && exit 1; }
done
echo "$passed passed, $failed failed"
((failed == 0))
