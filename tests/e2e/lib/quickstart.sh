# shellcheck shell=bash
# The quickstart of README.md. Sourced after cluster.sh.

# nothing_of_ours: removes operator and definition from the cluster.
nothing_of_ours() {
    in_use() { kubectl get wsclusters.wscluster.dev --all-namespaces -o jsonpath='{range .items[*]}{.metadata.namespace}{"\n"}{end}' 2>/dev/null; }
    if in_use | grep -v ^e2e- >/dev/null; then skip "there are WsClusters, and this test would remove their definition"; fi
    # Those of earlier tests end with their namespaces.
    unused() { [[ -z $(in_use) ]]; }
    wait_for 120 "the end of the WsClusters of other tests" unused
    with_images manifests/operator.yaml | kubectl delete --ignore-not-found --wait -f crds/ -f - >/dev/null
}

# first_message HOW INSTALL: the steps of README.md, with INSTALL for the operator, take less than two minutes.
first_message() {
    local begin=$EPOCHREALTIME took
    "$2"
    k apply -f "$WSCLUSTER_KAFKA_MANIFEST"
    for file in manifests/{quickstart-kubernetes,client}.yaml; do with_images "$file" | k apply -f -; done
    k wait --for=condition=Ready wsc/prices --timeout=3m
    echo "Ready after $(since "$begin" 1) s"
    k exec kafka-0 -- /opt/kafka/bin/kafka-topics.sh --bootstrap-server localhost:9092 --create --topic odin.trades --partitions 3
    k exec client -- /wscluster publish --brokers kafka:9092 odin.trades --key BTC '{"price":64000}'
    received() { k logs client | grep 64000 >/dev/null; }
    wait_for 60 "the message at the client" received
    took=$(since "$begin" 1)
    report figures "Time from an empty cluster (with the images on the node) to the first message at a client, with $1: $took s"
    k get wsc
    k logs client
    awk -v took="$took" 'BEGIN { exit !(took < 120) }' || fail "the first message took $took s"
}
