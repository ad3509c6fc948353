#!/usr/bin/env bash
# .dockerignore leaves all that the Dockerfiles compile. Cargo recorded every file that went into the binaries, so this needs neither
# a container engine nor a second build.
# needs: build
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$PWD/$target
context=$STAGE_DIR/context
mkdir "$context"
while read -r pattern; do
    case $pattern in
        '' | \#* | '*') ;;
        !*)
            git ls-files --cached --others --exclude-standard -- "${pattern#!}" |
                xargs -r cp --parents --no-dereference --target-directory "$context"
            ;;
        \*\*/*) find "$context" -name "${pattern#\*\*/}" -exec rm -rf {} + ;;
        *) echo "this test cannot read the pattern $pattern" && exit 1 ;;
    esac
done <.dockerignore

# The manifests of all members, and their build scripts.
(cd "$context" && cargo metadata --locked --offline --no-deps --format-version 1 >/dev/null)

failed=0
for part in server operator; do
    binary=$(sed -nE 's/.*cargo build .*--bin ([a-z-]+) .*/\1/p' "$part/Dockerfile")
    script=$(grep -o 'tests/images/[a-z]*' "$part/Dockerfile" | tail -n 1)
    # "BINARY: FILE FILE ...", absolute paths.
    mapfile -t files < <(sed 's/^[^:]*: //; s/ /\n/g' "$target/debug/$binary.d" | sed -n "s#^$PWD/##p")
    ((${#files[@]} > 100)) || { echo "$target/debug/$binary.d names ${#files[@]} files" && exit 1; }
    for file in "${files[@]}" "$script"; do
        [[ -e $context/$file ]] || { echo "$part/Dockerfile needs $file, which .dockerignore excludes" && failed=1; }
    done
done
((failed == 0)) || exit 1
echo "2 passed, 0 failed"
