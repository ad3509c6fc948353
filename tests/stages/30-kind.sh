#!/usr/bin/env bash
# kind accepts kind-config.yaml. It decodes and validates the file strictly before it needs Docker.
# lane: go
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/go-at-least 24 || exit 77
kind=$(tests/kind/build)

# Answers what kind asks before it reads the configuration, and refuses the first thing that kind then does.
mkdir "$STAGE_DIR/bin"
cat >"$STAGE_DIR/bin/docker" <<'END'
#!/bin/sh
case $1 in
    -v | --version | version) echo "Docker version 28.0.0, build none" ;;
    info) echo '{"CgroupDriver":"cgroupfs","CgroupVersion":"2","MemoryLimit":true,"PidsLimit":true,"CPUShares":true,"SecurityOptions":[]}' ;;
    ps) ;;
    *) echo "the configuration was accepted" >&2 && exit 99 ;;
esac
END
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
