#!/usr/bin/env bash
# Which small faults of the source does no test notice? docs/TESTING.md says how to read the answer; `--help` the options.
# Needs Linux and `cargo install cargo-mutants --locked`, which lists the faults; everything is kept under target/mutants.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo run --quiet --locked --manifest-path tools/mutants/Cargo.toml --target-dir target/mutants/tool -- "$@"
