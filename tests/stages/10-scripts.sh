#!/usr/bin/env bash
# The shell scripts pass shellcheck, and the Justfile parses.
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts=()
while IFS= read -r file; do
    if head -n 1 "$file" | grep -qE '^#!.*\b(ba|da)?sh$'; then
        scripts+=("$file")
    fi
done < <(git ls-files --cached --others --exclude-standard | while IFS= read -r f; do [[ -f $f ]] && echo "$f"; done)
shellcheck "${scripts[@]}"
just --list >/dev/null
echo "${#scripts[@]} scripts and the Justfile"
