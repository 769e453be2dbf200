#!/usr/bin/env bash
# Holds the GPU backend to its promises on a machine that has an NVIDIA GPU: every operation beside the reference, models
# beside PyTorch's golden values, a run on both devices, a run that is killed, speed beside compiled PyTorch.
#
#     tools/gpu_check.sh build                # where Rust is: programs into target/gpu
#     tools/gpu_check.sh [correct|speed|all]  # where the GPU is; all logs in one go to $OUT, if that is a folder
#
# Reads nothing outside of the repository but the driver, CUDA's libraries and, for speed, python3 with torch. One step's
# failure does not end the others.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD bin=$PWD/target/gpu

if [ "${1:-all}" = build ]; then
  set -e
  mkdir -p "$bin"
  cargo build --release -p mynah --features cuda
  cp "${CARGO_TARGET_DIR:-target}/release/mynah" "$bin/mynah"
  # `-p mynah` keeps the features of dependencies, and so their builds.
  made=$(cargo test --release -p mynah -p mynah-kernels-cuda --features mynah/cuda --test conformance --test golden --no-run --message-format=json)
  for test in conformance golden; do
    cp "$(grep "\"name\":\"$test\"" <<<"$made" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)" "$bin/$test"
  done
  strip "$bin"/*
  exit
fi

work=$(mktemp -d)
logs=$work/logs
mkdir "$logs"
finish() {
  if [ -d "${OUT:-}" ]; then
    for log in "$logs"/*.log; do printf '\n== %s\n' "$(basename "$log")"; head -400 "$log"; done >"$OUT/gpu_check.log"
  fi
  rm -rf "$work"
}
trap finish EXIT
# CUDA's libraries as PyTorch brings them, where there are no others.
site=$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' 2>/dev/null || true)
for dir in "$site"/nvidia/*/lib /usr/local/cuda/lib64 /usr/local/nvidia/lib64; do
  [ -d "$dir" ] && LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$dir
done
export LD_LIBRARY_PATH CARGO_MANIFEST_DIR=$root/crates/kernels-cuda MYNAH_CUDA_DEVICE=0
export XDG_CACHE_HOME=$work/cache PYTHONUNBUFFERED=1 RUST_BACKTRACE=0

# Name, seconds at most, command: what it says goes to a log, of which the last lines are shown where it fails.
step() {
  local name=$1 most=$2 began=$SECONDS code=0
  shift 2
  timeout "$most" "$@" >"$logs/$name.log" 2>&1 || code=$?
  printf '%-28s %s %4d s\n' "$name" "$([ $code = 0 ] && echo ok || echo "FAILED($code)")" $((SECONDS - began))
  [ $code = 0 ] || grep -v '^$\|^failures:\|^test result\|^note: run with' "$logs/$name.log" | tail -"${LINES_SHOWN:-6}" | cut -c1-400 | sed 's/^/    | /'
  return $code
}

# Every operation in a process of its own, for one that fails on a GPU takes the others of its process along.
conformance() {
  one() {
    local code=0 began=$SECONDS
    timeout 150 "$bin/conformance" --exact "$1" --test-threads=1 >"$logs/conformance-$1.txt" 2>&1 || code=$?
    [ $code = 0 ] && echo "ok $1 $((SECONDS - began))s" && return
    echo "FAILED($code) $1: $(grep -A1 panicked "$logs/conformance-$1.txt" | tail -1 | cut -c1-300)"
  }
  export -f one
  export bin logs
  "$bin/conformance" --list 2>/dev/null | sed -n 's/: test$//p' | xargs -P 12 -I{} bash -c 'one {}' >"$work/conformance"
  sort "$work/conformance" >"$logs/conformance.log"
  cat "$logs"/conformance-*.txt >"$logs/conformance-all.log"
  rm -f "$logs"/conformance-*.txt
  printf 'conformance: %d of %d operations\n' "$(grep -c ^ok "$work/conformance")" "$(wc -l <"$work/conformance")"
  grep ^FAILED "$work/conformance" | sed 's/^/    | /'
}

golden() {
  for test in logits gradients ten_steps greedy ropes runs_repeat; do
    step "golden-$test" 60 "$bin/golden" --exact "$test" --test-threads=1
  done
}

# Losses of the first steps of a run, from its journal.
losses() { sed -n 's/.*"loss":\([0-9.]*\).*/\1/p' "$1/metrics.jsonl" | head -"${2:-6}" | cut -c1-8 | tr '\n' ' '; }

# A small run on text of the repository, on both devices; and one that is killed and goes on.
runs() {
  cat "$root"/docs/*.md "$root"/*.md >"$work/text.txt"
  step corpus 60 "$bin/mynah" corpus "$work/text.txt" --out "$work/corpus" || return
  step tokenizer 60 "$bin/mynah" tokenizer train --corpus "$work/corpus" --vocab-size 512 --out "$work/tok" || return
  step tokenize 60 "$bin/mynah" tokenize --corpus "$work/corpus" --tokenizer "$work/tok" --out "$work/shards" || return
  local recipe=(--data "$work/shards" --preset tiny --quiet --set steps=60 --set dropout=0.0 --set eval_every=30 --set checkpoint_every=10)
  for precision in f32 bf16; do
    step "pretrain-cpu-$precision" 60 "$bin/mynah" pretrain "${recipe[@]}" --precision $precision --device cpu --out "$work/cpu-$precision"
    step "pretrain-cuda-$precision" 60 "$bin/mynah" pretrain "${recipe[@]}" --precision $precision --device cuda --out "$work/cuda-$precision"
    echo "    losses $precision cpu  $(losses "$work/cpu-$precision")"
    echo "    losses $precision cuda $(losses "$work/cuda-$precision")"
  done
  step complete-cuda 60 "$bin/mynah" complete --model "$work/cuda-bf16" --max-tokens 40 --device cuda "The model"
  step complete-cpu-reads-it 60 "$bin/mynah" complete --model "$work/cuda-bf16" --max-tokens 40 --device cpu "The model"
  "$bin/mynah" pretrain "${recipe[@]}" --precision bf16 --device cuda --out "$work/killed" >/dev/null 2>&1 &
  local pid=$!
  for _ in $(seq 200); do [ -s "$work/killed/metrics.jsonl" ] && break; sleep 0.05; done
  kill -9 $pid; wait $pid 2>/dev/null
  step continue-after-kill 60 "$bin/mynah" pretrain "${recipe[@]}" --precision bf16 --device cuda --out "$work/killed"
  cmp "$work/cuda-bf16/metrics.jsonl" "$work/killed/metrics.jsonl" && echo "    the killed run's metrics are the other's to the byte"
  ranks "${recipe[@]}" --precision bf16 --device cuda --set lanes=2
}

# Two processes with a card each, over NCCL and through the hosts, end as one process does.
ranks() {
  local run word loud=()
  if [ "$(nvidia-smi -L 2>/dev/null | wc -l)" -lt 2 ] || ! command -v mpirun >/dev/null; then
    echo "two ranks: not tried, for want of two GPUs or of mpirun"
    return
  fi
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  for word in "$@"; do [ "$word" = --quiet ] || loud+=("$word"); done
  step ranks-1 60 "$bin/mynah" pretrain "$@" --out "$work/ranks-1"
  step ranks-2-nccl 120 mpirun -n 2 "$bin/mynah" pretrain "${loud[@]}" --out "$work/ranks-2-nccl"
  grep 'from GPU to GPU' "$logs/ranks-2-nccl.log" || echo "    NCCL was not used"
  MYNAH_NCCL=off step ranks-2-hosts 120 mpirun -n 2 "$bin/mynah" pretrain "$@" --out "$work/ranks-2-hosts"
  for run in ranks-2-nccl ranks-2-hosts; do
    cmp "$work/ranks-1/metrics.jsonl" "$work/$run/metrics.jsonl" && echo "    $run: the metrics of one process to the byte"
  done
}

# Steps of GPT-2 with so many sequences, and what of the time goes where.
mynah_speed() {
  step "gpt2-$1-mynah" 90 "$bin/mynah" bench train --preset gpt2 --device cuda --batch-tokens $(($1 * 1024)) --steps 20 --json --quiet \
    && show "$logs/gpt2-$1-mynah.log"
}

speed() {
  local batch
  for batch in 32 64; do
    mynah_speed $batch
    step "gpt2-$batch-pytorch" 150 python3 tools/peers/gpu.py --sequences $batch --steps 20 --profile && show "$logs/gpt2-$batch-pytorch.log"
    [ "${SHORT:-}" ] && break
  done
  for batch in 1 64; do
    for temperature in 0 1; do
      step "decode-$batch-$temperature" 60 "$bin/mynah" bench decode --preset gpt2 --device cuda --batch $batch --temperature $temperature
      grep '^decode ' "$logs/decode-$batch-$temperature.log"
    done
  done
}

show() {
  python3 - "$1" <<'PY'
import json, sys
for line in open(sys.argv[1]):
    if line.startswith("{"):
        r = json.loads(line)
        print("    %.0f tokens/s, step %.2f ms (%.2f to %.2f)%s" % (r["tokens_per_sec"], 1e3 * r["step_secs_median"],
              1e3 * r["step_secs_min"], 1e3 * r["step_secs_max"],
              ", %.1f %% of the peak of %.0f TFLOP/s" % (100 * r["fraction_of_peak"], r["peak_flops_per_sec"] / 1e12) if "fraction_of_peak" in r else ""))
        print("    losses", " ".join("%.4f" % x for x in r["losses"]))
        spent = sum(k["secs"] for k in r.get("kernels", []))
        for k in r.get("kernels", [])[:40]:
            print("      %7.3f ms %5.1f %% %4d x %s" % (1e3 * k["secs"], 100 * k["secs"] / spent, k["count"], k["name"]))
        if spent:
            print("      %7.3f ms in kernels, of a step of %.3f ms" % (1e3 * spent, 1e3 * r["step_secs_median"]))
PY
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | head -1
case ${1:-all} in
  correct) step opens 60 "$bin/conformance" --exact copy; conformance; golden; runs; mynah_speed 32 ;;
  speed) speed ;;
  all) step opens 60 "$bin/conformance" --exact copy; conformance; golden; runs; speed ;;
  *) echo "correct, speed or all"; exit 2 ;;
esac
