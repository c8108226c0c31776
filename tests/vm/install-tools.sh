#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages, and the Python ones, that building and testing need, if
# some are missing.
# Rust is not among them: it comes from rustup.
set -euo pipefail

packages=(
    bird # BGP, for the stand-in of calico/node
    cloud-init # its schema check
    curl
    debootstrap
    dnsmasq-base # the DHCP of the VMs' network
    docker-registry
    docker.io # a daemon and a registry of the tests' own
    dosfstools
    e2fsprogs
    fdisk # sfdisk: partitions of images
    etcd-client
    etcd-server
    g++ # libFuzzer
    gcc
    golang-cfssl # reads our certificates as the tutorial's tool does
    genisoimage
    iproute2
    iptables
    libc6-dev
    make
    minisign
    mtools
    openssl
    packer # reads its templates
    python3-venv
    qemu-system-x86
    qemu-utils
    shellcheck
    systemd
    xz-utils
    zstd # to compare with
)
# Python packages of the tests' own.
venv=out/tools

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

# All packages are named to apt, the installed ones too: what is not named it may remove.
install_packages() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing packages: $*; run as root, or: sudo apt-get install $*" >&2
        exit 1
    fi
    echo "installing: $*"
    forbid_services
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # A qemu-utils from elsewhere, newer than the archive's qemu-system-x86, would keep that out.
    apt-get install -y -qq --no-install-recommends --allow-downgrades "${packages[@]}" ||
        apt-get install -y -qq --no-install-recommends --allow-downgrades "${packages[@]}" \
            "qemu-utils=$(apt-cache madison qemu-system-x86 | awk 'NR == 1 { print $3 }')"
}

install_python() {
    local wanted=(tests/sbom/requirements.txt tests/deploy/requirements.txt)
    cmp -s <(cat "${wanted[@]}") "$venv/installed" && return
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${wanted[@]/#/--requirement=}"
    cat "${wanted[@]}" >"$venv/installed"
}

cd "$(dirname "$0")/../.."
mapfile -t wanted < <(missing)
[ "${#wanted[@]}" -eq 0 ] || install_packages "${wanted[@]}"
install_python
