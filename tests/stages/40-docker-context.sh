#!/usr/bin/env bash
# The files that .dockerignore leaves are enough to compile what the Dockerfiles compile. This needs no container engine.
# needs: build
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$PWD/$target
# The same folder each time, and files with their times, so that cargo compiles only what has changed.
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
        *) echo "this test cannot read the pattern $pattern" && exit 1 ;;
    esac
done <.dockerignore

# With the target folder of the checkout, where most dependencies are compiled already.
for part in server operator; do
    package=$(sed -nE 's/.*cargo build .*--package ([a-z-]+) .*/\1/p' "$part/Dockerfile")
    (cd "$context" && CARGO_TARGET_DIR=$target nice cargo check --quiet --locked --package "$package")
    script=$(grep -o 'tests/images/[a-z]*' "$part/Dockerfile" | tail -n 1)
    [[ -x $context/$script ]] || { echo "$part/Dockerfile runs $script, which its context lacks" && exit 1; }
done
echo "2 passed, 0 failed"
