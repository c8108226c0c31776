#!/usr/bin/env bash
# Collects the components of the demonstration's bundle: stand-ins, and etcd from Debian's packages. BIRD and
# its libraries also come from Debian's packages: `sim images` puts them into calico/node's image.
# usage: components.sh SIM DIRECTORY
set -euo pipefail

sim=$1
directory=$2

mkdir -p "$directory"
"$sim" components "$directory"
"$sim" images "$directory"
for program in etcd etcdctl; do
    path=$(command -v "$program") || {
        echo "error: $program is missing; run: apt-get install etcd-server etcd-client" >&2
        exit 1
    }
    install -m 0755 "$path" "$directory/$program"
done
