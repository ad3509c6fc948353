#!/usr/bin/env bash
# What shards and gateways of a real local run serve at /metrics is clean by promtool's rules, in the Prometheus text format,
# and is OpenMetrics for a client that prefers that. promtool comes from Debian's package, without its service.
# lane: wait
# needs: build
# limit: 300
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/promtool --version
run=
trap '[[ -z $run ]] || kill "$run" 2>/dev/null || true' EXIT
"$WSCLUSTER" local --port 0 --output json >"$STAGE_DIR/run.json" 2>"$STAGE_DIR/log" &
run=$!
for _ in {1..600}; do
    [[ ! -s $STAGE_DIR/run.json ]] || break
    kill -0 "$run" 2>/dev/null || { tail -n 40 "$STAGE_DIR/log" && exit 1; }
    sleep 0.1
done
mapfile -t admins < <(python3 -c 'import json, sys
ready = json.loads(sys.stdin.readline())
print(*[part["admin"] for part in ready["shards"] + ready["gateways"]], sep="\n")' <"$STAGE_DIR/run.json")

passed=0 failed=0
check() { # WHAT CMD...
    if "${@:2}" >"$STAGE_DIR/out" 2>&1; then
        passed=$((passed + 1))
    else
        echo "FAIL  $1"
        cat "$STAGE_DIR/out"
        failed=$((failed + 1))
    fi
}
ask() { # ADMIN ACCEPT: header fields and body
    curl -sS --fail --include --header "Accept: $2" "http://$1/metrics"
}
clean() { curl -sS --fail "http://$1/metrics" | tests/promtool check metrics; }
is_openmetrics() {
    local answer
    answer=$(ask "$1" 'application/openmetrics-text;version=1.0.0,text/plain;q=0.5')
    grep -qi '^content-type: application/openmetrics-text' <<<"$answer" && [[ $(tail -n 1 <<<"$answer") == '# EOF' ]]
}
is_text() {
    local answer
    answer=$(ask "$1" 'text/plain;q=0.9,*/*;q=0.1')
    grep -qi '^content-type: text/plain; version=0.0.4' <<<"$answer" && ! grep -q '# EOF' <<<"$answer"
}
((${#admins[@]} == 5)) || { echo "not three shards and two gateways: ${admins[*]}" && exit 1; }
for admin in "${admins[@]}"; do
    check "promtool, $admin" clean "$admin"
    check "OpenMetrics, $admin" is_openmetrics "$admin"
    check "plain text, $admin" is_text "$admin"
done
echo "$passed passed, $failed failed"
((failed == 0))
