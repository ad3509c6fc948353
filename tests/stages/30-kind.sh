#!/usr/bin/env bash
# kind reads kind-config.yaml: its own strict decoder and validation, which come before it needs Docker.
set -euo pipefail
cd "$(dirname "$0")/../.."

kind_version=v0.33.0
go_minor=$(GOTOOLCHAIN=local go version 2>/dev/null | sed -n 's/.* go1\.\([0-9]*\).*/\1/p') || true
if ((${go_minor:-0} < 24)); then
    echo "skipped: needs Go 1.24 or later"
    exit 77
fi
kind=${XDG_CACHE_HOME:-$HOME/.cache}/wscluster/kind-$kind_version/kind
[[ -x $kind ]] || GOBIN=$(dirname "$kind") go install "sigs.k8s.io/kind@$kind_version"

# Answers what kind asks before it reads the configuration, and refuses the first thing that kind then does.
mkdir "$STAGE_DIR/bin"
cat >"$STAGE_DIR/bin/docker" <<'EOF'
#!/bin/sh
case $1 in
    -v | --version | version) echo "Docker version 28.0.0, build none" ;;
    info) echo '{"CgroupDriver":"cgroupfs","CgroupVersion":"2","MemoryLimit":true,"PidsLimit":true,"CPUShares":true,"SecurityOptions":[]}' ;;
    ps) ;;
    *) echo "the configuration was accepted" >&2 && exit 99 ;;
esac
EOF
chmod +x "$STAGE_DIR/bin/docker"

create() {
    PATH=$STAGE_DIR/bin:$PATH "$kind" create cluster --config "$1" --kubeconfig "$STAGE_DIR/kubeconfig" 2>&1 || true
}
answer=$(create kind-config.yaml)
[[ $answer == *"the configuration was accepted"* ]] || { echo "kind refused kind-config.yaml: $answer" && exit 1; }
sed 's/role: worker/roll: worker/' kind-config.yaml >"$STAGE_DIR/wrong.yaml"
answer=$(create "$STAGE_DIR/wrong.yaml")
[[ $answer == *"field roll not found"* ]] || { echo "kind should have refused a misspelled field, but: $answer" && exit 1; }
echo "2 passed, 0 failed"
