# shellcheck shell=bash
# A cluster for a stage of tests/run-all, with the images of stage 15. Sourced.

# cluster_up NAME: brings up a rig of this name and checkout, so that a rig in use stays as it is; first ends what a killed run left.
cluster_up() {
    local images=${CARGO_TARGET_DIR:-target}/test-images
    if [[ $(id -u) != 0 ]]; then
        echo "skipped: needs root"
        exit 77
    fi
    tests/go-at-least 26 || exit 77
    WSCLUSTER_RIG=$1-$(pwd | sha256sum | cut -c1-8)
    export WSCLUSTER_RIG WSCLUSTER_KAFKA_MANIFEST=$images/kafka.yaml
    # A second signal must not interrupt the removal of the rig.
    trap 'exit 143' TERM
    trap 'trap "" TERM; tests/cluster/down 2>/dev/null' EXIT
    tests/cluster/up --fresh
    tests/cluster/load-image "$images"/*.tar
}
