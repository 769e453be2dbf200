#!/usr/bin/env bash
# What the compiler cannot say of `unsafe` code: tools/soundness.sh [tsan] [loom] [miri], all of them without a name.
#
#   tsan   the kernels' tests under ThreadSanitizer, after it has found a race that is planted
#   loom   the thread pool's protocol in the orders that threads can run in, after its model has found faults that are planted
#   miri   undefined behaviour in the pool, its memory and the optimizer's passes, where the toolchain has Miri
#
# tsan and miri use compiler options that are not stable. What they cannot see is in docs/TESTING.md.
set -euo pipefail
cd "$(dirname "$0")/.."

package=mynah-kernels

# Runs a command that has to fail, and to say why.
must_find() {
    local what=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1 || ! grep -qE "$what" "$log"; then
        tail -n 40 "$log"
        echo "not found: $what"
        return 1
    fi
    grep -m 1 -E "$what" "$log"
    rm "$log"
}

tsan() {
    local host flags="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg slow"
    host=$(rustc -vV | sed -n 's/^host: //p')
    # With a target, build scripts and macros are built without the sanitizer.
    local test=(cargo test --release --locked --target "$host" --target-dir target/tsan -p "$package")
    mkdir -p target/tsan
    # The harness of tests comes compiled, without the sanitizer, which does not see how its own two threads wait for each other.
    printf '%s\n' "race:test::event::CompletedTest" "race:^test::run_test$" >target/tsan/suppressions
    export RUSTC_BOOTSTRAP=1 TSAN_OPTIONS="suppressions=$PWD/target/tsan/suppressions"
    echo "== tsan: a race that is planted"
    local found="SUMMARY: ThreadSanitizer: data race .*planted_race"
    RUSTFLAGS="$flags --cfg planted_race" must_find "$found" "${test[@]}" --lib planted_race -- --nocapture
    # What panics print would be captured by the harness, in memory of its own.
    echo "== tsan: the pool's tests"
    RUSTFLAGS="$flags" "${test[@]}" --lib pool:: -- --nocapture
    echo "== tsan: every operation"
    RUSTFLAGS="$flags" "${test[@]}" --test sizes --test conformance -- --nocapture
}

# Faults of the protocol that its model has to find: what is wrong; how it is made wrong.
faults=(
    "a caller that does not see what workers wrote; s/load(Acquire) & JOINED/load(Relaxed) \& JOINED/"
    "workers that do not publish what they wrote; s/fetch_sub(1, AcqRel)/fetch_sub(1, Relaxed)/"
    "a job that is opened before it is written; s/| OPEN, Release)/| OPEN, Relaxed)/"
    "a caller that does not wait for workers; s/ & JOINED != 0 {/ \& JOINED != 0 \&\& rounds == 9 {/"
    "a worker that sleeps without another look; s/if !is_new(self.state.load(Acquire), last_job) {/if last_job < JOB {/"
    "a worker that lies down without a swap; s/asleep\[thread\].swap(true, AcqRel)/asleep[thread].store(true, Release)/"
    "a caller that wakes nobody; s/if asleep.swap(false, AcqRel) {/if false \&\& asleep.swap(false, AcqRel) {/"
    "a pool that ends without waking its workers; /^impl Drop for Pool/,/^}/s/worker.thread().unpark();//"
)

loom() {
    local test=(cargo test --locked --target-dir "$PWD/target/loom" -p "$package" --lib pool::model)
    local fault copy=target/loom/faulty pool=crates/kernels/src/cpu/pool/mod.rs
    export RUSTFLAGS="--cfg loom"
    rm -rf "$copy" && mkdir -p "$copy" && cp -r crates Cargo.toml Cargo.lock "$copy"
    for fault in "${faults[@]}"; do
        echo "== loom: ${fault%%; *}"
        sed "${fault#*; }" "$pool" >"$copy/$pool"
        ! cmp -s "$pool" "$copy/$pool" || { echo "nothing to break"; return 1; }
        must_find "Causality violation|deadlock|exceeded maximum|assertion" env -C "$copy" "${test[@]}" -- --test-threads 1
    done
    echo "== loom: the pool's protocol"
    # In the same place: cargo tells builds of one target directory apart by the age of files alone.
    cp "$pool" "$copy/$pool"
    env -C "$copy" "${test[@]}" -- --test-threads 1
}

miri() {
    if ! cargo +nightly miri --version; then
        echo "== miri: this machine's toolchain has none"
        return
    fi
    # A backtrace takes minutes there.
    export RUSTFLAGS="--cfg slow" RUST_BACKTRACE=0
    echo "== miri: the pool, its memory and the optimizer's passes"
    cargo +nightly miri test --locked --target-dir target/miri -p "$package" --lib -- pool:: scratch:: aligned:: optimizer::
}

[ $# -gt 0 ] || set -- tsan loom miri
for name in "$@"; do "$name"; done
