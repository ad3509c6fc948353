# shellcheck shell=bash
# Rollouts under load: new configuration, a new image, a gateway rollout, an image that does not exist and its rollback. One shard at a
# time, none twice, and no client loses a message.
# takes: 190
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
serving

rolled() { # PART JSON
    local before
    before=$(uids prices "$1")
    edit prices "$2"
    wait_for 150 "new pods of every $1" all_new prices "$1" "$before"
    settled prices 120
}

through "new shard configuration" prices 300 rolled shard '{"delivery": {"maxQueueBytes": "128Ki"}}'
gentle clients-1 50
told prices 'shard' || fail "no Event tells of the rollout: $(events prices)"
image=null
if [[ -n ${WSCLUSTER_RIG:-} ]]; then
    image=\"${WSCLUSTER_IMAGE%:*}:next\"
    tests/cluster/tag-image "$WSCLUSTER_IMAGE" "${WSCLUSTER_IMAGE%:*}:next"
    through "new shard image" prices 300 rolled shard "{\"template\": {\"shard\": {\"image\": $image}}}"
    gentle "clients-$audiences" 50
fi
through "gateway rollout" prices 300 rolled gateway '{"template": {"gateway": {"annotations": {"example.com/round": "2"}}}}'
gentle "clients-$audiences" 50

# A bad image stops at most one shard, and the rollback needs no manual step.
bad_then_back() {
    edit prices '{"template": {"shard": {"image": "localhost/no-such-image:1"}}}'
    broken() { k get pods -o json | jq -e 'any(.items[].status.containerStatuses[]?; .state.waiting.reason // "" | test("Image|ErrImage"))' >/dev/null; }
    wait_for 60 "a shard without its image" broken
    wait_for 30 "a condition that says so" says prices Degraded '^True .*image'
    sleep 5 # long enough for a second shard to be rolled, if that happened
    same 1 "$(k get pods -o json | jq '[.items[] | select(any(.status.containerStatuses[]?; .state.waiting.reason // "" | test("Image")))] | length')" \
        "shards without their image"
    edit prices "{\"template\": {\"shard\": {\"image\": $image}}}"
    settled prices 120
}
through "bad image, then rollback" prices 300 bad_then_back
k rollout status statefulset/prices --timeout=10s
