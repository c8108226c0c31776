#!/usr/bin/env bash
# Makes docs/status-page.png: the status page of a master, as a browser shows it. Two VMs become a cluster of the
# stand-ins for that. MACHINES=containers boots containers instead: see CONTRIBUTING.md.
# usage: status-page.sh
set -euo pipefail

cd "$(dirname "$0")/.."
make tools appliance PROFILE=dev
tests/vm/install-tools.sh page
tests/vm/image.sh out/vm
out/sim services out/services
APPLIANCE=$PWD/out/appliance SERVICES=$PWD/out/services tests/with-tools.sh \
    cargo test --locked --test integration page::pictures::the_page_of_a_cluster -- --ignored --nocapture
cp out/page/cluster.png docs/status-page.png
