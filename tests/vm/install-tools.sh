#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that building and testing need, if some are missing.
# Rust is not among them: it comes from rustup.
set -euo pipefail

packages=(
    cloud-init # its schema check
    debootstrap
    dosfstools
    e2fsprogs
    etcd-client
    etcd-server
    gcc
    genisoimage
    libc6-dev
    make
    mtools
    openssl
    qemu-system-x86
    qemu-utils
    shellcheck
    systemd
    xz-utils
)

missing() {
    local package
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

# A service that a package would start here, such as etcd, could take a port that a test uses.
forbid_services() {
    [ -e /usr/sbin/policy-rc.d ] && return
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
}

mapfile -t wanted < <(missing)
[ "${#wanted[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages: ${wanted[*]}; run as root, or: sudo apt-get install ${wanted[*]}" >&2
    exit 1
fi
echo "installing: ${wanted[*]}"
forbid_services
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# A qemu-utils from elsewhere, newer than the archive's qemu-system-x86, would keep that out.
apt-get install -y -qq --no-install-recommends --allow-downgrades "${wanted[@]}" ||
    apt-get install -y -qq --no-install-recommends --allow-downgrades "${wanted[@]}" \
        "qemu-utils=$(apt-cache madison qemu-system-x86 | awk 'NR == 1 { print $3 }')"
