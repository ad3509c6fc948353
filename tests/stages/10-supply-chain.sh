#!/usr/bin/env bash
# Each C library in the binary has the version that tests/supply-chain.yaml names, and the list names all of them.
# lane: wait
set -euo pipefail
cd "$(dirname "$0")/../.."

# Crates that contain a C library: their names end in -sys or -src. The C code of ring has no upstream release of its own.
found=$(awk -F'"' '/^name = /{name=$2} /^version = /{if (name ~ /-(sys|src)$/) print name, $2}' Cargo.lock | sort)
# These only find a library that another crate contains or that the system has, or are for other systems.
found=$(grep -vE '^(core-foundation-sys|jni-sys|js-sys|linux-raw-sys|openssl-sys|security-framework-sys|web-sys|windows-sys) ' <<<"$found")
listed=$(awk '$1 == "crate:" {crate=$2} $1 == "locked:" {print crate, $2}' tests/supply-chain.yaml | sort)
if ! diff <(echo "$listed") <(echo "$found"); then
    echo "look for fixes in the release notes, then correct tests/supply-chain.yaml (<) after Cargo.lock (>) and set its date"
    exit 1
fi
echo "$(wc -l <<<"$listed") passed, 0 failed"
