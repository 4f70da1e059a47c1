#!/usr/bin/env bash
# Fuzzes the parsers at the boundary, one after another, with LLVM's libFuzzer: no nightly compiler, no cargo-fuzz.
#   scripts/fuzz.sh [SECONDS [TARGET...]]
# Each target starts with the seeds in fuzz/seeds and the vectors of its document, and keeps what it finds interesting
# outside the clone. An input that breaks a target is left in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly seconds=${1:-60}
shift || true
readonly host=$(rustc -vV | sed -n 's/^host: //p')
readonly builds=${CARGO_TARGET_DIR:-$PWD/fuzz/target}/fuzz
readonly all=$(sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || read -ra targets <<<"${all//$'\n'/ }"

# What tells the fuzzer which code an input reached, as cargo-fuzz sets it. `--target` keeps it out of build scripts.
flags="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
CARGO_TARGET_DIR=$builds RUSTFLAGS=$flags \
  cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$host" "${targets[@]/#/--bin=}"

summary=()
mkdir -p fuzz/artifacts
for target in "${targets[@]}"; do
  corpus=("$builds/corpus/$target" "fuzz/seeds/$target")
  mkdir -p "${corpus[@]}"
  for vectors in "vectors/$target" "vectors/$target/valid" "vectors/$target/invalid"; do
    [ ! -d "$vectors" ] || corpus+=("$vectors")
  done
  printf '==> %s\n' "$target"
  log=$builds/$target.log
  if ! "$builds/$host/release/$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target-" "${corpus[@]}" >"$log" 2>&1; then
    tail -n 40 "$log"
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  summary+=("$(printf '%-18s %12s inputs' "$target" "$runs")")
done

printf '==> none of these inputs broke its parser\n'
printf '    %s\n' "${summary[@]}"
