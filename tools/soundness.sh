#!/usr/bin/env bash
# What the compiler cannot say of `unsafe` code: tools/soundness.sh [tsan] [loom] [miri], all of them without a name.
#
#   tsan   the kernels' tests under ThreadSanitizer, after it has found a race that is planted
#   loom   the thread pool's protocol in every order that threads can run in, and again with each of the faults it must find
#   miri   undefined behaviour in the portable code, where the toolchain has Miri
#
# tsan and miri use compiler options that are not stable. The standard library is not instrumented; docs/TESTING.md says what that means.
set -euo pipefail
cd "$(dirname "$0")/.."

package=mynah-kernels
host=$(rustc -vV | sed -n 's/^host: //p')

# Runs a command that has to fail, and to say why.
must_find() {
    local what=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1 || ! grep -q "$what" "$log"; then
        tail -n 40 "$log"
        echo "not found: $what"
        return 1
    fi
    grep -m 1 "$what" "$log"
    rm "$log"
}

tsan() {
    local flags="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer -Zunstable-options"
    # With a target, build scripts and macros are built without the sanitizer.
    local test=(cargo test --release --locked --target "$host" --target-dir target/tsan -p "$package")
    export RUSTC_BOOTSTRAP=1 TSAN_OPTIONS="exitcode=66 history_size=4"
    echo "== tsan: a race that is planted"
    RUSTFLAGS="$flags --cfg planted_race" must_find "ThreadSanitizer: data race" "${test[@]}" --lib planted_race
    echo "== tsan: the kernels' tests"
    RUSTFLAGS="$flags" "${test[@]}" --lib --test conformance --test sizes
}

loom() {
    local test=(cargo test --release --locked --target-dir target/loom -p "$package" --lib pool::model)
    echo "== loom: the pool's protocol"
    RUSTFLAGS="--cfg loom" "${test[@]}" -- --test-threads 1
}

miri() {
    if ! cargo +nightly miri --version; then
        echo "== miri: this machine's toolchain has none"
        return
    fi
    MIRIFLAGS="-Zmiri-many-seeds=0..4" cargo +nightly miri test --target-dir target/miri -p "$package" --lib -- pool:: scratch:: aligned::
}

for step in "${@:-tsan loom miri}"; do
    for name in $step; do "$name"; done
done
