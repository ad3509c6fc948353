# The jars, the properties of a broker, starting one. Sourced.
# shellcheck shell=bash

# Downloads them once for each version. The file `complete` tells a whole download from an interrupted one.
get_jars() {
    [[ ! -e $jars/complete ]] || return 0
    [[ -z ${WSCLUSTER_OFFLINE:-} ]] || die "Kafka $kafka_version is not in $jars, and nothing may be downloaded"
    command -v mvn >/dev/null || die "missing: mvn; on Debian: apt-get install maven"
    mkdir -p "$cache"
    exec 9>"$cache/kafka-download.lock"
    flock 9
    if [[ ! -e $jars/complete ]]; then
        say "downloading Kafka $kafka_version (50 MB, once)"
        rm -rf "$jars"
        mkdir -p "$jars"
        timeout 600 mvn --batch-mode --quiet --file "$here/pom.xml" dependency:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$jars" >&2
        touch "$jars/complete"
    fi
    exec 9>&-
}

# Small heap, C1 only, serial collector: a broker starts in 3 s and uses less than 200 MB.
java_options=(-Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:MaxDirectMemorySize=64m -Xss512k
    -Djava.awt.headless=true "-Dlog4j2.configurationFile=$here/lib/log4j2.yaml")

run_class() { timeout 60 java "${java_options[@]}" -cp "$jars/*" "$@"; }

# Ports below the kernel's range for outgoing sockets, so that no connection takes a broker's port while it is down.
pick_ports() {
    local low port
    read -r low _ </proc/sys/net/ipv4/ip_local_port_range
    ((low > 3000)) || low=32768
    ports=()
    while ((${#ports[@]} < $1)); do
        port=$((RANDOM % (low - 2000) + 2000))
        [[ " ${ports[*]} " != *" $port "* ]] || continue
        ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue
        ports+=("$port")
    done
}

# properties N COUNT: ports are in $ports, six a broker: TEST LINK CONTROLLER SASL TLS EXPIRED.
properties() {
    local n=$1 count=$2 secure=$3 i base voters='' replicas=$2 isr=1
    base=$(((n - 1) * 6))
    for ((i = 0; i < count; i++)); do voters+=",$((i + 1))@127.0.0.1:${ports[i * 6 + 2]}"; done
    ((count < 3)) || isr=2
    local listeners="TEST://127.0.0.1:${ports[base]},LINK://127.0.0.1:${ports[base + 1]}"
    local protocols=TEST:PLAINTEXT,LINK:PLAINTEXT,CONTROLLER:PLAINTEXT
    if [[ -n $secure ]]; then
        listeners+=",SASL://127.0.0.1:${ports[base + 3]},TLS://127.0.0.1:${ports[base + 4]},EXPIRED://127.0.0.1:${ports[base + 5]}"
        protocols+=,SASL:SASL_SSL,TLS:SSL,EXPIRED:SSL
    fi
    cat <<EOF
process.roles=broker,controller
node.id=$n
broker.rack=rack-$n
listeners=$listeners,CONTROLLER://127.0.0.1:${ports[base + 2]}
advertised.listeners=$listeners
controller.listener.names=CONTROLLER
controller.quorum.voters=${voters#,}
listener.security.protocol.map=$protocols
inter.broker.listener.name=TEST
log.dirs=$dir/$n/data
num.partitions=1
default.replication.factor=$replicas
min.insync.replicas=$isr
offsets.topic.num.partitions=1
offsets.topic.replication.factor=$replicas
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$isr
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$isr
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
delete.topic.enable=true
log.cleaner.enable=false
log.retention.check.interval.ms=1000
log.segment.delete.delay.ms=0
num.network.threads=2
num.io.threads=2
# Seconds until the others notice that a broker was killed, and until it is back.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
EOF
    [[ -z $secure ]] || secure_properties
}

# Brokers that this process started: their pids.
declare -A started=()

# start_broker N: wait_for_broker returns when it serves.
start_broker() {
    local n=$1 log=$dir/$1/log
    gone "$n" || die "broker $n runs already"
    [[ ! -e $log ]] || cat "$log" >>"$log.old"
    : >"$log"
    # The broker must not inherit the locks of the caller.
    (
        cd "$dir/$n"
        exec 9>&- 8>&- 7>&- </dev/null >"$log" 2>&1
        exec setsid java "${java_options[@]}" "-Dwscluster.kafka=$dir/$n" -cp "$jars/*" kafka.Kafka server.properties
    ) &
    started[$n]=$!
}

serves() { grep -q 'Kafka Server started' "$dir/$1/log"; }

wait_for_broker() {
    local status=0
    # Asked for by its pid: on a busy machine it is not yet a process with the command line that `gone` looks for.
    serves_or_dead() { serves "$1" || ! kill -0 "${started[$1]}" 2>/dev/null; }
    wait_until 90 "answer of broker $1" serves_or_dead "$1" || return 1
    serves "$1" && return 0
    wait "${started[$1]}" || status=$?
    say "error: broker $1 ended with status $status"
    return 1
}
