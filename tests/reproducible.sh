#!/usr/bin/env bash
# Builds the program again, from a copy of this tree in another directory and with another cargo
# home, and compares it with PROGRAM, byte by byte.
# usage: reproducible.sh PROGRAM
set -euo pipefail

program=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/tree" "$work/cargo"
git ls-files -z | xargs -0 cp --parents -t "$work/tree"
# The same downloads, at another path.
ln -s "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/cargo/registry"
# The user may have set another build directory for cargo.
unset CARGO_TARGET_DIR
CARGO_HOME="$work/cargo" make -C "$work/tree" builder
sha256sum "$program" "$work/tree/out/builder"
cmp "$program" "$work/tree/out/builder"
