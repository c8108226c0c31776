#!/usr/bin/env bash
# Installs the Python packages that draw the pictures of terminals below out/picture, unless they are there. Prints the
# directory.
set -euo pipefail

cd "$(dirname "$0")/.."
venv=out/picture
if ! cmp -s docs/picture-requirements.txt "$venv/done"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement=docs/picture-requirements.txt
    cp docs/picture-requirements.txt "$venv/done"
fi
echo "$venv"
