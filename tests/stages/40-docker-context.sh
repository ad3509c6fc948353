#!/usr/bin/env bash
# What .dockerignore leaves is enough to compile what the Dockerfiles compile: there is no engine here to find out.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$PWD/$target
# Always at one place and with the files' times, so that only what changed is compiled again.
context=$target/docker-context
rm -rf "$context"
mkdir -p "$context"
while read -r pattern; do
    case $pattern in
        '' | \#* | '*') ;;
        !*)
            git ls-files --cached --others --exclude-standard -- "${pattern#!}" |
                xargs -r cp --parents --preserve=timestamps --target-directory "$context"
            ;;
        \*\*/*) find "$context" -name "${pattern#\*\*/}" -exec rm -rf {} + ;;
        *) echo "this test does not know the pattern $pattern" && exit 1 ;;
    esac
done <.dockerignore

# Dependencies are those of the checkout, compiled already.
for part in server operator; do
    package=$(sed -nE 's/.*cargo build .*--package ([a-z-]+) .*/\1/p' "$part/Dockerfile")
    (cd "$context" && CARGO_TARGET_DIR=$target cargo check --quiet --locked --package "$package")
    script=$(grep -o 'tests/images/[a-z]*' "$part/Dockerfile" | tail -n 1)
    [[ -x $context/$script ]] || { echo "$part/Dockerfile runs $script, which its context lacks" && exit 1; }
done
echo "2 passed, 0 failed"
