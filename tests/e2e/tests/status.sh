# shellcheck shell=bash
# kubectl get, describe and the conditions are right in each state of a cluster: starting, ready, a shard that crashes, Kafka away, an
# image that does not exist, an exhausted quota, a spec that no operator can carry out, paused.
# takes: 110
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
operator
own_kafka
kafka

phase() { k get wsc "$1" --no-headers -o custom-columns=P:.status.phase; }
phase_is() { [[ $(phase "$1") == "$2" ]]; }
described() { k describe wsc "$1" | grep -iE "$2" >/dev/null; }
expect() { # SECONDS NAME TYPE REGEX
    local end=$((SECONDS + $1))
    until says "$2" "$3" "$4"; do
        ((SECONDS < end)) || fail "condition $3 of $2 should say \"$4\", but says \"$(condition "$2" "$3")\""
        sleep 1
    done
    # kubectl describe shows the same.
    described "$2" "$(condition "$2" "$3" | sed -E 's/^[A-Za-z]+ [A-Za-z]+: //; s/[][().*+?{}|^$]/./g' | cut -c1-60)" ||
        fail "kubectl describe does not show $3 of $2"
}

# Starting: Kafka has not answered yet. Several clusters at once, since they mostly wait.
wsc away '{"shards": 1, "gateway": {"replicas": 1}, "source": {"kafka": {"brokers": ["kafka-is-away:9092"]}}}'
wsc noimage '{"shards": 1, "gateway": {"replicas": 1}, "template": {"shard": {"image": "localhost/no-such-image:1"}}}'
wsc prices '{"shards": 2, "gateway": {"replicas": 1}}'
expect 30 away Ready '^False .*0 (of|/) ?1'
ready prices
expect 5 prices Ready '^True .*2'
expect 30 prices Progressing '^False'
expect 30 prices Degraded '^False'
same 2 "$(k get wsc prices -o jsonpath='{.status.readyShards}')" "status.readyShards of prices"
line=$(k get wsc prices --no-headers)
read -r name shards shards_ready connections capacity _ <<<"$line"
same "prices 2 2 0 320" "$name $shards $shards_ready $connections $capacity" "kubectl get wsc"
phase_is prices Ready || fail "the phase of prices should be Ready, but: $line"

# Kafka away from the start: the shard lives, is not ready, and the reason is Kafka.
expect 60 away Degraded '^True KafkaUnavailable.*kafka-is-away'
phase_is away Ready && fail "a cluster without Kafka says it is Ready"
# An image that does not exist: the condition names it.
expect 60 noimage Degraded '^True ShardImageUnavailable.*no-such-image'
told noimage 'image' || fail "no Event speaks of the image; there are: $(events noimage)"

# A shard that crashes again and again: its process refuses a variable.
edit noimage '{"template": {"shard": {"image": null, "env": [{"name": "WSCLUSTER_WORKERS", "value": "none"}]}}}'
expect 90 noimage Degraded '^True ShardCrashing.*noimage-0 crashed .*exit code 2'

# Paused: nothing changes, and a condition says why. Then the operator carries out the spec.
edit prices '{"paused": true}'
expect 30 prices Paused '^True'
edit prices '{"shards": 3}'
expect 30 prices Paused '^True'
same 2 "$(k get statefulset prices -o jsonpath='{.spec.replicas}')" "shards of a paused cluster"
edit prices '{"paused": false}'
expect 30 prices Paused '^False'
ready prices
same 3 "$(status prices .readyShards)" "status.readyShards after the pause"

# An exhausted quota: the condition has its name and the number of missing shards, from the error of the API server.
k create quota full --hard="pods=$(k get pods --no-headers | wc -l)" >/dev/null
edit prices '{"shards": 4}'
expect 60 prices Degraded '^True ShardsRefused.*1 shards? .*quota.*full'
expect 5 prices Ready '^False'
k delete quota full >/dev/null
ready prices 120

# A spec that the API server accepts and no operator can carry out: the condition names the field, and running pods stay.
edit away '{"source": {"kafka": {"brokers": []}}}'
expect 30 away Degraded '^True SpecInvalid.*spec.source.kafka.brokers'
phase_is away Invalid || fail "the phase of an invalid spec is $(phase away)"
same 1 "$(pods away shard -o name | wc -l)" "shards of a cluster whose new spec is invalid"
k delete wsc away noimage --wait=false >/dev/null

# Somebody else's object has a name that the operator needs: it stays unchanged.
k create service clusterip taken-gateway --tcp=80 >/dev/null
wsc taken '{"shards": 1, "gateway": {"replicas": 1}}'
expect 30 taken Degraded '^True NameTaken.*taken-gateway'
same "" "$(k get service taken-gateway -o jsonpath='{.metadata.ownerReferences}')" "owners of somebody else's Service"
k delete wsc taken --wait=false >/dev/null

# Kafka stops while a cluster serves: clients stay connected, the cluster is degraded with the reason, and it recovers by itself.
kubectl --namespace "$kafka_namespace" scale statefulset/kafka --replicas=0 >/dev/null
expect 60 prices Degraded '^True KafkaUnavailable.*kafka'
expect 5 prices Ready '^True' # clients keep their connections, and new ones are accepted
kubectl --namespace "$kafka_namespace" scale statefulset/kafka --replicas=1 >/dev/null
kafka
expect 90 prices Degraded '^False'

# One Event for each transition, not one for each reconciliation.
most=$(k get events --field-selector involvedObject.kind=WsCluster -o json | jq '[.items[] | (.count // .series.count // 1)] | max')
((most <= 5)) || fail "an Event was repeated $most times: $(k get events)"
