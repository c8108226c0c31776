#!/usr/bin/env bash
# Makes the pictures of terminals that play (docs/install.svg, watch.svg, doctor.svg, apply.svg), and docs/timeline.svg. Two
# VMs become a cluster of the stand-ins, and every command runs there. MACHINES=containers boots containers instead: see
# CONTRIBUTING.md.
# usage: recordings.sh [--draw]
# --draw draws what an earlier run recorded in out/recordings.
set -euo pipefail

cd "$(dirname "$0")/.."
if [ "${1-}" != --draw ]; then
    make tools appliance PROFILE=dev
    tests/vm/image.sh out/vm
    APPLIANCE=$PWD/out/appliance tests/with-tools.sh \
        cargo test --locked --test integration recordings::a_cluster_is_recorded -- --ignored --nocapture
fi
venv=$(docs/picture-tools.sh)
# RECORDING TITLE ROWS
draw() {
    "$venv/bin/python" docs/recordings.py "out/recordings/$1" "$2" "$3" "docs/$1.svg"
}
draw install 'A machine becomes a cluster' 32
draw watch 'Another machine joins it' 32
draw doctor 'A fault, its cause, and the command that mends it' 48
draw apply 'Another setting for a node' 44
cp out/recordings/timeline.svg docs/timeline.svg
ls -l docs/{install,watch,doctor,apply,timeline}.svg
