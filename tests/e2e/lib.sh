# shellcheck shell=bash
# Functions of all end-to-end tests. Sourced; run sets $namespace, and $test to the name of the test.

# A pipe fails with any of its parts, so no command in one may stop reading early (head, grep -q): the writer would be killed.
set -Eeuo pipefail
trap 'echo "failed: ${BASH_SOURCE[0]}:$LINENO: $BASH_COMMAND" >&2' ERR
: "${namespace:?use tests/e2e/run}"

k() { kubectl --namespace "$namespace" "$@"; }

fail() { echo "failed: $*" >&2 && exit 1; }

# wait_for SECONDS WHAT COMMAND…: polls until COMMAND succeeds; a failure shows its last output.
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >"$scratch/answer" 2>&1; do
        ((SECONDS < end)) || fail "$what: not seen in time; last output: $(tail -n 3 "$scratch/answer" | cut -c -900)"
        sleep 1 # a kubectl takes a tenth of a second of CPU
    done
}

# same WANTED FOUND WHAT
same() { [[ $1 == "$2" ]] || fail "$3 should be \"$1\", found \"$2\""; }

# since BEGIN DIGITS: seconds since then, BEGIN being an earlier $EPOCHREALTIME.
since() { awk -v a="$1" -v b="$EPOCHREALTIME" -v digits="$2" 'BEGIN { printf "%.*f", digits, b - a }'; }

# newer_chart: the chart with another version, in $scratch/newer.
newer_chart() {
    cp -rL charts/wscluster "$scratch/newer"
    sed -i 's/^version: .*/version: 9.9.9/; s/^appVersion: .*/appVersion: 9.9.9/' "$scratch/newer/Chart.yaml"
}

# report rows|figures LINE: prints a measurement, and adds it to the report if there is one.
report() {
    echo "$2"
    [[ -n ${WSCLUSTER_E2E_REPORT:-} ]] || return 0
    mkdir -p "$WSCLUSTER_E2E_REPORT/$1"
    echo "$2" >>"$WSCLUSTER_E2E_REPORT/$1/$test"
}

# local_port LOG COMMAND…: starts a kubectl command that listens on a free local port, and sets $port. It ends with the test.
local_port() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 &
    children+=($!)
    wait_for 20 "a port in $log" grep -qE '127\.0\.0\.1:[0-9]+' "$log"
    # shellcheck disable=SC2034 # the result
    port=$(sed -nE 's/.*127\.0\.0\.1:([0-9]+).*/\1/p' "$log" | head -n 1)
}
children=()
scratch=$(mktemp -d)
at_end() {
    ((${#children[@]} == 0)) || kill "${children[@]}" 2>/dev/null || true
    rm -rf "$scratch"
}
trap at_end EXIT
