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
venv=$(docs/picture-tools.sh)
"$venv/bin/python" docs/picture.py "$log" docs/demo.svg
ls -l docs/demo.svg
