#!/usr/bin/env bash
# Builds a release again, in another directory and with another cargo home, and compares every file of DIRECTORY.
# usage: check.sh TARGET VERSION EPOCH DIRECTORY
set -euo pipefail

target=$1 version=$2 epoch=$3 directory=$(realpath "$4")
cd "$(dirname "$0")/.."
export RELEASE_TOOLS=${RELEASE_TOOLS:-$PWD/out/cargo-tools}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/tree" "$work/cargo"
git ls-files -z | xargs -0 cp --parents -t "$work/tree"
# build.sh asks git for the files of the project.
git -C "$work/tree" init --quiet
git -C "$work/tree" add --all
# The same downloads, at another path.
ln -s "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/cargo/registry"
# The user may have set another build directory for cargo.
unset CARGO_TARGET_DIR
export CARGO_HOME=$work/cargo
make --no-print-directory -C "$work/tree" release-files TARGET="$target" VERSION="$version" EPOCH="$epoch" RELEASE="$work/again"

differs=
for file in "$work"/again/*; do
    cmp "$file" "$directory/${file##*/}" || differs=yes
done
[ -z "$differs" ] || { echo "error: a second build gives other bytes; compare: diffoscope $directory DIR" >&2; exit 1; }
echo "release: the second build has the same $(find "$work/again" -type f | wc -l) files, byte by byte"
