# Everything a developer runs. `just` alone lists it; `pip install rust-just` or `cargo install just` brings it.

# List the recipes.
default:
    @just --list --unsorted

# Build every binary.
build *args:
    cargo build --workspace {{ args }}

# Run the Rust tests; `just test gateway` runs those with that word in their name.
test *args:
    cargo test --workspace {{ args }}

# What the compiler and clippy have to say, as errors; and the shell scripts.
lint:
    cargo clippy --workspace --all-targets -- -D warnings
    tests/stages/10-scripts.sh

# Format the Rust code.
fmt:
    cargo fmt --all

# Write the generated files anew.
generate:
    tests/generate

# Check licences, banned crates and sources of all dependencies, offline.
deny:
    tests/run-all --only deny

# Everything that must be green: format, lints, generated files, dependencies, tests, stages.
ci *args:
    tests/run-all {{ args }}
