#!/usr/bin/env bash
# Fuzzes each target for SECONDS: run.sh [SECONDS [TARGET…]].
#
# Rust prevents the errors that sanitizers look for, so a stable compiler is enough. New inputs are kept in
# out/fuzz; `cargo fuzz cmin` reduces them to those that cover new code, for corpus/.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-20}
shift || true
version=0.13.2
tools=$PWD/out/tools
export PATH="$tools/bin:$PATH"
if [[ $(cargo fuzz --version 2>/dev/null) != "cargo-fuzz $version" ]]; then
  cargo install --quiet --locked --root "$tools" --version "$version" cargo-fuzz
fi
# Link fast instead of optimizing: each target runs only for seconds.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  mapfile -t targets < <(cargo fuzz list --fuzz-dir tests/fuzz)
fi
for target in "${targets[@]}"; do
  found=out/fuzz/$target
  mkdir -p "$found"
  log=$(mktemp)
  if ! cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" \
    "$found" "tests/fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -rss_limit_mb=512 -timeout=5 -max_len=16384 \
    -print_final_stats=1 >"$log" 2>&1; then
    tail -n 40 "$log"
    rm "$log"
    echo "fuzzing $target failed" >&2
    exit 1
  fi
  executions=$(awk '/stat::number_of_executed_units/ { print $2 }' "$log")
  edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2)
  echo "$target: $executions executions, $edges edges covered"
  rm "$log"
done
