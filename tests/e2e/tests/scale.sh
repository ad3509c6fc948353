# shellcheck shell=bash
# kubectl scale 3→5→2 under load: the clients of shards that leave move at the declared rate, into free slots, and lose nothing.
# The last step has 320 slots for 300 clients.
# takes: 70
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
serving

up() { k scale wsc/prices --replicas=5 >/dev/null && settled prices; }
down() { k scale wsc/prices --replicas=2 >/dev/null && settled prices 120; }
up_and_down() { up && down; }
through "scale 3→5→2" prices 300 up_and_down
gentle clients-1 50
same "prices-0 prices-1" "$(pods prices shard -o name | cut -d/ -f2 | xargs)" "shards that are left"

# Too few slots for the clients that would move: the change waits, a condition has the number of missing slots, and it continues once
# there are enough.
audience crowd prices 200
k scale wsc/prices --replicas=1 >/dev/null
wait_for 60 "40 missing slots in a condition" says prices Progressing '\b40\b'
same 2 "$(k get statefulset prices -o jsonpath='{.spec.replicas}')" "shards while there is no room"
same 0 "$(progress crowd | jq .clients.dropped)" "clients moved while there is no room"
edit prices '{"shards": 2}'
settled prices
leave crowd
unharmed crowd
