#!/usr/bin/env bash
# Makes the VM image that the demonstration and the VM tests boot, from the distribution's own
# packages: systemd, cloud-init, docker. It contains nothing of Kubernetes. Prints its directory.
#
# The image is kept below DIRECTORY, in a directory whose name is a digest of this script and the suite.
# SYSTEM is another release of Debian than the usual one: bullseye, bookworm or trixie.
# usage: image.sh DIRECTORY
set -euo pipefail

cache=$1
here=$(cd "$(dirname "$0")" && pwd)
size=8G
packages=(
    apparmor ca-certificates cloud-init conntrack e2fsprogs ethtool initramfs-tools ipset iproute2
    iptables isc-dhcp-client kmod openssh-server openssl procps qemu-guest-agent socat sudo
    systemd-sysv udev util-linux
)

# The usual release is the last one with a docker that Kubernetes v1.9 can use.
distribution() {
    # shellcheck source=/dev/null
    . /etc/os-release
    suite=${SYSTEM:-$([ "$ID" = ubuntu ] && echo jammy || echo bookworm)}
    case $suite in
    jammy)
        components=main,universe
        packages+=(docker.io linux-image-virtual netplan.io)
        ;;
    bullseye | bookworm)
        components=main
        packages+=(docker.io linux-image-cloud-amd64 ifupdown)
        ;;
    trixie)
        components=main
        # Its docker is too new, so the bundle brings one: these are libraries of Debian's docker, which
        # the demonstration's bundle then has.
        packages+=(linux-image-cloud-amd64 ifupdown libdevmapper1.02.1 libseccomp2 libsystemd0)
        ;;
    *)
        echo "error: SYSTEM=$suite is no system with an image; use bullseye, bookworm or trixie" >&2
        exit 2
        ;;
    esac
}

# The archive from which this machine installs its own packages.
mirror() {
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(ORIGIN) $(SUITE) $(REPO_URI)' 'Created-By: Packages' |
        awk '($1 == "Debian" || $1 == "Ubuntu") && $2 !~ /security|updates|backports/ { print $3; exit }'
}

say() {
    printf '%4d s  %s\n' "$SECONDS" "$*" >&2
}

# Removes the files of unfinished runs, including this one. Unmounts them first.
clean_up() {
    local work
    for work in "$cache"/.building-*; do
        umount -R "$work/root/proc" "$work/root/sys" 2>/dev/null || true
        rm -rf --one-file-system "$work"
    done
}

bootstrap() {
    say "debootstrap $suite"
    debootstrap --variant=minbase --components="$components" "$suite" "$work/root" "$uri" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; exit 1; }
}

install_packages() {
    say "install ${#packages[@]} packages"
    printf '#!/bin/sh\nexit 101\n' >"$work/root/usr/sbin/policy-rc.d"
    chmod +x "$work/root/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$work/root/etc/resolv.conf"
    mount -t proc proc "$work/root/proc"
    mount -t sysfs sysfs "$work/root/sys"
    chroot "$work/root" env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update && apt-get install -y --no-install-recommends "$@" && apt-get clean' \
        sh "${packages[@]}" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
    umount "$work/root/proc" "$work/root/sys"
    rm "$work/root/usr/sbin/policy-rc.d" "$work/root/etc/resolv.conf"
}

# Adds the settings of a distribution's cloud image, and nothing else.
configure() {
    printf '/dev/vda / ext4 errors=remount-ro 0 1\n' >"$work/root/etc/fstab"
    printf 'datasource_list: [NoCloud, ConfigDrive, OpenStack, None]\n' >"$work/root/etc/cloud/cloud.cfg.d/90-datasource.cfg"
    # cloud-init's default is a locale that must be generated, with a package that is not in the image.
    printf 'locale: C.UTF-8\n' >"$work/root/etc/cloud/cloud.cfg.d/90-locale.cfg"
    printf 'localhost\n' >"$work/root/etc/hostname"
    : >"$work/root/etc/machine-id"
    rm -rf "$work/root/var/lib/apt/lists" "$work/root"/var/cache/apt/*.bin "$work/root/var/lib/cloud"
}

make_disk() {
    say "make the disk"
    cp -L "$work/root/vmlinuz" "$work/out/vmlinuz"
    cp -L "$work/root/initrd.img" "$work/out/initrd.img"
    mke2fs -q -t ext4 -L root -d "$work/root" "$work/out/root.img" "$size" >/dev/null
}

distribution
name=$(cat "$here/image.sh" <(echo "$suite") | sha256sum | cut -c 1-12)
image=$cache/$name
mkdir -p "$cache"
# A second run waits for the image instead of making another one.
exec 9>"$cache/.lock"
if ! flock --nonblock 9; then
    say "wait for the image that is being made"
    flock 9
fi
if [ -e "$image/root.img" ]; then
    echo "$image"
    exit 0
fi
uri=$(mirror)
[ -n "$uri" ] || { apt-get update -qq >&2 && uri=$(mirror); }
[ -n "$uri" ] || { echo "error: apt has no archive of Debian or Ubuntu for the VM image; add one to /etc/apt/sources.list" >&2; exit 1; }
clean_up
trap clean_up EXIT
work=$(mktemp -d "$cache/.building-XXXXXX")
mkdir "$work/out"
bootstrap
install_packages
configure
make_disk
mv "$work/out" "$image"
say "image is ready: $image"
echo "$image"
