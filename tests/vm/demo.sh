#!/usr/bin/env bash
# Builds the appliance with the demonstration bundle and shows its main job in a VM.
set -euo pipefail
cd "$(dirname "$0")/../.."

make appliance BUNDLE=demo
built=$SECONDS
exec target/x86_64-unknown-linux-gnu/release/vm demo --appliance out/appliance \
    --spent "build the appliance=$built"
