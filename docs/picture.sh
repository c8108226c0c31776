#!/usr/bin/env bash
# Makes docs/demo.svg, the picture of a terminal in which `make demo` ran.
# usage: picture.sh [LOG]
# LOG is what a run of `make demo` printed; without it, the demonstration runs now and leaves out/demo.log.
set -euo pipefail

cd "$(dirname "$0")/.."
log=${1:-}
if [ -z "$log" ]; then
    log=out/demo.log
    mkdir -p out
    make demo BUNDLE=demo 2>&1 | tee "$log"
    make demo-stop
fi
venv=out/picture
if [ ! -e "$venv/done" ]; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement=docs/picture-requirements.txt
    touch "$venv/done"
fi
"$venv/bin/python" docs/picture.py "$log" docs/demo.svg
ls -l docs/demo.svg
