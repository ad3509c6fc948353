# Tasks for developers. `just` alone lists them; `pip install rust-just` or `cargo install just` installs it.

# The machine's OpenSSL where its headers are installed (Debian: libssl-dev): compiling one takes most of a first build.
export OPENSSL_NO_VENDOR := `pkg-config --exists 'openssl >= 3' 2>/dev/null && echo 1 || echo 0`

# List the recipes.
default:
    @just --list --unsorted

# Build every binary.
build *args:
    cargo build --workspace {{ args }}

# Build what is released: target/dist/NAME, stripped, and its debug information beside it in NAME.debug.
dist:
    cargo build --locked --profile dist --package wscluster --package wscluster-operator --bins
    for name in wscluster wscluster-operator; do \
        objcopy --only-keep-debug target/dist/$name target/dist/$name.debug && \
        strip target/dist/$name && \
        objcopy --add-gnu-debuglink=target/dist/$name.debug target/dist/$name; \
    done

# Run the Rust tests; `just test gateway` runs those with that word in their name.
test *args:
    cargo test --workspace {{ args }}

# Run clippy with warnings as errors, and shellcheck on the scripts.
lint:
    cargo clippy --workspace --all-targets -- -D warnings
    tests/stages/10-scripts.sh

# Format the Rust code.
fmt:
    cargo fmt --all

# Regenerate the CRD and docs/fields.md.
generate:
    tests/generate

# Regenerate manifests/operator.yaml and the table of rights from the chart (needs Go, to build Helm).
render:
    tests/chart/render

# Check licenses, banned crates and sources of all dependencies, offline.
deny:
    tests/run-all --only deny

# Run everything that CI runs: format, lints, generated files, dependencies, tests, stages.
ci *args:
    tests/run-all {{ args }}

# Start a real one-node Kubernetes on this machine (Linux, root), with the images of this checkout.
cluster-up: images
    tests/cluster/up
    tests/cluster/load-image target/images/wscluster.tar target/images/wscluster-operator.tar

# Stop it, whatever state it is in.
cluster-down:
    tests/cluster/down

# Build the images without a container engine: target/images/*.tar.
images *args:
    tests/images/build {{ args }}

# Run the end-to-end tests in the cluster of KUBECONFIG, else in that of kind-up, else in that of cluster-up.
e2e *args:
    #!/usr/bin/env bash
    set -euo pipefail
    if [[ -z ${KUBECONFIG:-} && ! -e {{ kind }} ]]; then
        exec tests/cluster/run tests/e2e/run {{ args }}
    fi
    KUBECONFIG=${KUBECONFIG:-{{ kind }}} exec tests/e2e/run {{ args }}

# Run the end-to-end tests in a cluster on this machine (Linux, root) and write docs/kubernetes-measured.md (20 min).
measure-kubernetes: cluster-up
    tests/kafka/image target/images/kafka.tar
    tests/cluster/load-image target/images/kafka.tar
    WSCLUSTER_KAFKA_MANIFEST=target/images/kafka.yaml tests/cluster/run tests/e2e/measure

kind := "target/kind.kubeconfig"

# Start a cluster with kind (Docker or Podman), without changing your kubectl configuration.
kind-up:
    mkdir -p target
    kind create cluster --config kind-config.yaml --kubeconfig {{ kind }} --wait 3m

# Build the images with Docker and load them into kind.
kind-load:
    docker build --file server/Dockerfile --tag localhost/wscluster:dev .
    docker build --file operator/Dockerfile --tag localhost/wscluster-operator:dev .
    kind load docker-image --name wscluster localhost/wscluster:dev localhost/wscluster-operator:dev

# Delete kind's cluster.
kind-down:
    kind delete cluster --name wscluster --kubeconfig {{ kind }}
    rm -f {{ kind }}

# Build the benchmarks and their subjects, optimized.
[private]
bench-build:
    cargo build --release --workspace --bins

# Simulate a thousand shards and a million clients in virtual time, and write docs/simulation.md (2 min).
simulate:
    cargo build --quiet --workspace --bins
    target/debug/wscluster-simulation scale > target/simulation.md
    mv target/simulation.md docs/simulation.md

# Benchmarks print the machine, the peers and whether each goal is met (exit code 3: one is not), and write
# target/bench/NAME.json. Run them on an idle machine. Peers: apt-get install -y --no-install-recommends haproxy nginx-light

# One gateway worker against HAProxy and nginx: CPU and memory (5 min).
bench-gateway *args: bench-build
    target/release/wscluster-bench gateway {{ args }}

# One shard worker against a bare loop of send calls: deliveries per CPU-second and memory (5 min).
bench-fanout *args: bench-build
    target/release/wscluster-bench fanout {{ args }}

# 12,000 clients at 100/s, the same at once, and one client more than slots exist (5 min).
bench-12k *args: bench-build
    target/release/wscluster-bench 12k {{ args }}

# Shards killed by SIGKILL under load: no message lost or duplicated (1 min).
bench-kill9 *args: bench-build
    target/release/wscluster-bench kill9 {{ args }}

# Scaling, rollouts, edits and failures under load on `wscluster local`: nothing refused, lost or duplicated (5 min).
bench-changes *args: bench-build
    target/release/wscluster-bench changes {{ args }}

# Clients that read too slowly beside others, under each policy of delivery.slowClient (7 min).
bench-slow *args: bench-build
    target/release/wscluster-bench slow {{ args }}

# Churn, storms, slow readers and hostile clients together: what they used is given back (33 min; --minutes 2: 5 min).
bench-soak *args: bench-build
    target/release/wscluster-bench soak {{ args }}

# A shard offered more records than it can fan out: lag, handshakes meanwhile, and the deliveries in the end (2 min).
bench-overload *args: bench-build
    target/release/wscluster-bench overload {{ args }}

# The replaced system's guard, on and off, and wscluster under the same load (4 min).
bench-ancestor *args: bench-build
    target/release/wscluster-bench ancestor {{ args }}

# Three real Kafka brokers, 2,000 clients, and failures of every part (7 min; --short: 2 min). Needs root, Java, Maven.
bench-audit *args: bench-build
    tests/audit/run {{ args }}

# Start-up time of a shard behind a million old records, with real Kafka (2 min). Needs Java, Maven.
bench-catch-up *args: bench-build
    taskset -c 1 tests/kafka/run taskset -c 0,1 target/release/wscluster-bench catch-up {{ args }}

# CENTRIFUGO=PATH uses a whole Centrifugo server as the peer.
# A shard against a server built on Centrifugo's library, with real Kafka (8 min). Needs Java, Maven, Go.
bench-centrifuge *args: bench-build
    taskset -c 1 tests/kafka/run taskset -c 0,1 target/release/wscluster-bench centrifuge {{ args }}

# Write the reports of the last runs into docs/benchmarks.md and docs/audit.md.
bench-docs: bench-build
    target/release/wscluster-bench docs
