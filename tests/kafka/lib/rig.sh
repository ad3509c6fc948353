# Paths, the process of each broker, waiting with a deadline. Sourced by every command.
# shellcheck shell=bash
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) # tests/kafka
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wscluster
kafka_version=4.3.1
jars=$cache/kafka-$kafka_version

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*" && exit 1; }
wants_help() { [[ ${1:-} == -h || ${1:-} == --help ]]; }

# The folder of the rig, which `up` made.
need_rig() {
    dir=${KAFKA_RIG:-}
    [[ -n $dir ]] || die "KAFKA_RIG is not set: run this inside tests/kafka/run, or source the env file that tests/kafka/up names"
    [[ -e $dir/brokers ]] || die "no rig in $dir: it was taken down, or never came up"
}

# Each broker has its folder in its command line. A pid file could name another process.
pids_of() { pgrep --full -- "-Dwscluster\.kafka=$dir/$1 " || true; }

need_broker() {
    [[ $1 =~ ^[1-9]$ && -e $dir/$1/server.properties ]] || die "no broker $1 in this rig; it has 1 to $(<"$dir/brokers")"
}

# wait_until SECONDS WHAT CMD…: until CMD succeeds.
wait_until() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < end)) || { say "error: no $what in time" && return 1; }
        sleep 0.05
    done
}

gone() { [[ -z $(pids_of "$1") ]]; }

# kill_broker N SIGNAL: and wait for its end.
kill_broker() {
    local pids
    pids=$(pids_of "$1")
    [[ -n $pids ]] || return 0
    # shellcheck disable=SC2086 # one word a process
    kill "-$2" $pids 2>/dev/null || true
    wait_until 30 "end of broker $1" gone "$1"
}

show_logs() {
    local n
    for ((n = 1; n <= $(<"$dir/brokers"); n++)); do
        say "----- broker $n (last 40 lines of $dir/$n/log)"
        tail -n 40 "$dir/$n/log" >&2 2>/dev/null || true
    done
}
