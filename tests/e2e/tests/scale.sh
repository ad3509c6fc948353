# shellcheck shell=bash
# kubectl scale 3→5→2 under load: every client of a shard that leaves is moved at the declared rate, into slots that are
# free, and loses nothing. The last step has slots for 320 and clients for 300.
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

# No room for what would move: it waits, says how many slots are missing, and goes on once there is room.
audience crowd prices 200
k scale wsc/prices --replicas=1 >/dev/null
wait_for 60 "40 missing slots in a condition" says prices Progressing '\b40\b'
same 2 "$(k get statefulset prices -o jsonpath='{.spec.replicas}')" "shards while there is no room"
same 0 "$(progress crowd | jq .clients.dropped)" "clients moved while there is no room"
edit prices '{"shards": 2}'
settled prices
leave crowd
unharmed crowd
