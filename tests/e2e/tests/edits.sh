# shellcheck shell=bash
# Ten random edits of a spec in a minute (seeded), under load: the cluster ends as the last edit wants it, and no client loses a message
# meanwhile.
# takes: 120
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
serving

seed=${WSCLUSTER_SEED:-$RANDOM}
echo "WSCLUSTER_SEED=$seed"
RANDOM=$seed
ten_edits() {
    local edit shards=3
    for _ in {1..10}; do
        case $((RANDOM % 5)) in
            0 | 1) shards=$((RANDOM % 4 + 2)) && edit="{\"shards\": $shards}" ;;
            2) edit="{\"delivery\": {\"maxSubscriptions\": $((RANDOM % 100 + 100))}}" ;;
            3) edit="{\"template\": {\"shard\": {\"annotations\": {\"example.com/round\": \"$RANDOM\"}}}}" ;;
            4) edit="{\"gateway\": {\"replicas\": $((RANDOM % 2 + 2))}}" ;;
        esac
        echo "$edit"
        edit prices "$edit"
        sleep "$((RANDOM % 6 + 3))"
    done
    settled prices 240
    same "$shards" "$(status prices .readyShards)" "ready shards after the last edit"
}
through "spec edited ten times in a minute" prices 300 ten_edits
