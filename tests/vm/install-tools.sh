#!/usr/bin/env bash
# Installs or unpacks the Debian or Ubuntu packages that the demonstration, the tests or the pictures of the status page
# need. Rust is not
# among them: install it with rustup.
#
# Only common tools are installed. Packages with a service, and packages that change the machine, such as
# cloud-init and docker, are unpacked below out/debian: tests/with-tools.sh runs a command with them.
# usage: install-tools.sh demo|test|page|release [--dry-run]
# --dry-run only prints the lists.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

# The packages that `make demo` installs.
installed=(
    debootstrap # makes the VM image
    e2fsprogs
    gcc
    genisoimage # config drives and volumes
    iproute2
    iptables # in the image of calico/node
    libc6-dev
    make
    qemu-system-x86
    qemu-utils
)
# The packages that `make demo` unpacks.
unpacked=(
    bird # BGP, for the stand-in of calico/node
    etcd-client
    etcd-server
)
# The additional packages of `make test`.
installed_for_tests=(
    curl
    dnsmasq-base # the DHCP of the VMs' network
    dosfstools
    fdisk # sfdisk: partitions of images
    g++ # libFuzzer
    ipset # real sets of addresses, for the test of `appliance reset`
    mtools
    openssl
    python3-venv
    shellcheck
    strace # makes system calls fail, and kills programs at them
    systemd # systemd-analyze
    xz-utils
    zstd # for comparison
)
unpacked_for_tests=(
    cloud-init # its schema check, and its cache
    docker-registry
    docker.io # a separate daemon for tests
    golang-cfssl # the tutorial's tool for certificates
    kubernetes-client # a kubectl that drives the stand-in of the API server
    minisign
    nftables # rules for the check of the firewall
    packer # reads its templates
)
# The packages of `make test-page`: 420 MB, so that no other target has them.
unpacked_for_page=(
    chromium
    chromium-driver
)
# The packages of `make release`.
installed_for_release=(
    binutils
    debootstrap # a fresh system, to try the package
    gcc
    git
    libc6-dev
    lintian
    make
    xz-utils
)
unpacked_for_release=(minisign)
# The programs of `make release`, from crates.io, with their own locks.
cargo_tools=out/cargo-tools
crates=(cargo-about@0.9.3 cargo-cyclonedx@0.5.9 cargo-deb@3.8.0)
# The Python packages, in a separate environment below out/.
venv=out/tools
requirements=(tests/deploy/requirements.txt tests/cloud/requirements.txt tests/objects/requirements.txt tests/sbom/requirements.txt)
# The Python packages with a checksum for each file.
checked=tests/audit/requirements.txt
# The directory of unpacked packages.
debian=out/debian
# The directory of a newer cloud-init, whose schema takes only its own keys, and the release that it is from.
newer=out/newer
release=trixie

usage() {
    echo "usage: install-tools.sh demo|test|page|release [--dry-run]" >&2
    exit 2
}

is_installed() {
    dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

missing() {
    local package
    for package in "${installed[@]}"; do
        is_installed "$package" || echo "$package"
    done
}

not_unpacked() {
    local package
    for package in "${unpacked[@]}"; do
        is_installed "$package" || grep -qsx "$package" "$debian/packages" || echo "$package"
    done
}

apt() {
    apt-get --yes --quiet=2 --no-install-recommends --no-remove -o DPkg::Lock::Timeout=600 "$@"
}

# The arguments of `apt-get install`. apt refuses qemu-system-x86 if the installed qemu-utils is newer than
# the archive's: only then, qemu-utils is downgraded to the archive's version, and no other package.
plan() {
    local version
    if apt --simulate install "$@" >/dev/null 2>&1; then
        echo "$@"
        return
    fi
    version=$(apt-cache madison qemu-system-x86 | awk 'NR == 1 { print $3 }')
    set -- --allow-downgrades "$@" "qemu-utils=$version"
    [ "$(downgraded "$@")" = qemu-utils ] || return 1
    echo "$@"
}

# The packages that apt would downgrade.
downgraded() {
    apt-get --simulate --yes --no-install-recommends --no-remove install "$@" |
        awk '/^The following packages will be DOWNGRADED:/ { on = 1; next } /^[^ ]/ { on = 0 } on { for (i = 1; i <= NF; i++) print $i }'
}

install_packages() {
    local arguments
    if ! arguments=$(plan "$@"); then
        echo "error: apt cannot install these packages; for the reason, run: apt-get --simulate install $*" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "error: packages are missing; run: sudo apt-get install --no-install-recommends $arguments" >&2
        exit 1
    fi
    echo "installing on this machine, to build programs and to boot virtual machines: $*"
    [ "$arguments" = "$*" ] || echo "qemu-utils is too new for the archive's qemu-system-x86 and is replaced: ${arguments##* }"
    # shellcheck disable=SC2086 # words
    apt install $arguments >/dev/null
}

# Downloads and unpacks packages, and their dependencies that are missing on this machine.
unpack_packages() {
    local archives=$PWD/$debian/archives archive
    echo "unpacking below $debian, without installing: $*"
    rm -rf "$archives"
    mkdir -p "$archives/partial" "$debian/root"
    apt -o "Dir::Cache::archives=$archives" -o APT::Sandbox::User=root -o Debug::NoLocking=yes \
        --download-only install "$@" >/dev/null
    for archive in "$archives"/*.deb; do
        dpkg-deb --extract "$archive" "$debian/root"
    done
    printf '%s\n' "$@" >>"$debian/packages"
    rm -rf "$archives"
}

# Downloads and unpacks the newer cloud-init from the archive of this machine. Only Debian's has that release.
unpack_newer() {
    local work=$PWD/$newer/work keys=/usr/share/keyrings/debian-archive-keyring.gpg uri archive
    [ ! -e "$newer/release" ] || return 0
    # shellcheck disable=SC2016 # apt's own variables
    uri=$(apt-get indextargets --format '$(ORIGIN) $(SUITE) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 !~ /security|updates|backports/ { uri = $3 } END { print uri }')
    [ -n "$uri" ] || { echo "no newer cloud-init: the archive of this machine is not Debian's"; return 0; }
    echo "unpacking cloud-init of $release below $newer, without installing"
    rm -rf "$newer"
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$newer/root"
    echo "deb [signed-by=$keys] $uri $release main" >"$work/sources.list"
    set -- -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Debug::NoLocking=yes --quiet=2
    apt-get "$@" update
    (cd "$work" && apt-get "$@" download cloud-init)
    for archive in "$work"/cloud-init_*.deb; do
        dpkg-deb --extract "$archive" "$newer/root"
    done
    rm -rf "$work"
    echo "$release" >"$newer/release"
}

install_python() {
    cmp -s <(cat "$checked" "${requirements[@]}") "$venv/installed" && return
    echo "installing Python packages below $venv"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${requirements[@]/#/--requirement=}"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement="$checked"
    cat "$checked" "${requirements[@]}" >"$venv/installed"
}

# Without link-time optimisation, which takes longer than it saves. The settings of this project's .cargo do not count.
install_crates() {
    local crate options
    for crate in "${crates[@]}"; do
        ! grep -qsF "\"${crate/@/ } " "$cargo_tools/.crates.toml" || continue
        echo "building $crate below $cargo_tools: this takes some minutes"
        options=()
        [ "${crate%@*}" != cargo-about ] || options=(--features cli)
        (cd / && CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
            cargo install --quiet --locked --root "$OLDPWD/$cargo_tools" "${options[@]}" "$crate")
    done
}

cd "$(dirname "$0")/../.."
case ${1:-} in
demo) ;;
test)
    installed+=("${installed_for_tests[@]}")
    unpacked+=("${unpacked_for_tests[@]}")
    ;;
page)
    installed=(gcc libc6-dev make)
    unpacked=("${unpacked_for_page[@]}")
    ;;
release)
    installed=("${installed_for_release[@]}")
    unpacked=("${unpacked_for_release[@]}")
    ;;
*) usage ;;
esac
case ${2:-} in
'') ;;
--dry-run)
    echo "installed on this machine: ${installed[*]}"
    echo "unpacked below $debian: ${unpacked[*]}"
    [ "$1" != test ] || echo "unpacked below $newer: cloud-init of $release"
    [ "$1" != release ] || echo "built below $cargo_tools: ${crates[*]}"
    exit 0
    ;;
*) usage ;;
esac

mkdir -p out
# A second run waits.
exec 9>out/.tools.lock
flock 9
mapfile -t to_install < <(missing)
mapfile -t to_unpack < <(not_unpacked)
[ $((${#to_install[@]} + ${#to_unpack[@]})) -eq 0 ] || [ "$(id -u)" -ne 0 ] || apt update
[ "${#to_install[@]}" -eq 0 ] || install_packages "${to_install[@]}"
[ "${#to_unpack[@]}" -eq 0 ] || unpack_packages "${to_unpack[@]}"
[ "$1" != test ] || unpack_newer
[ "$1" != test ] || install_python
[ "$1" != release ] || install_crates
