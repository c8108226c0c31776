#!/usr/bin/env bash
# Collects the components of the demonstration's bundle: stand-ins, and etcd from Debian's packages. BIRD and
# its libraries also come from Debian's packages: `sim images` puts them into calico/node's image.
# For VMs of another release of Debian (SYSTEM), also writes the definition of the bundle, and collects what that
# release needs: an older one its own etcd, a newer one a docker that is old enough.
# usage: components.sh SIM DIRECTORY [bullseye|trixie]
set -euo pipefail

sim=$1
directory=$2
system=${3:-}
here=$(cd "$(dirname "$0")" && pwd)

collect() {
    local program path
    for program in "$@"; do
        path=$(command -v "$program") || {
            echo "error: $program is missing; run: make tools" >&2
            exit 1
        }
        install -m 0755 "$path" "$directory/$program"
    done
}

# The etcd of this machine needs a newer C library than an older release has.
collect_etcd_of() {
    local suite=$1 apt mirror archive
    apt=$(mktemp -d)
    # shellcheck disable=SC2064 # the directory of now
    trap "rm -rf '$apt'" EXIT
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/root"
    # shellcheck disable=SC2016 # apt's own variables
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(SUITE) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 !~ /security|updates|backports/ { print $3; exit }')
    [ -n "$mirror" ] || {
        echo "error: apt has no archive of Debian; add one to /etc/apt/sources.list, then run: apt-get update" >&2
        exit 1
    }
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/list"
    apt_of() {
        apt-get --quiet=2 -o "Dir::Etc::SourceList=$apt/list" -o Dir::Etc::SourceParts=- -o "Dir::State=$apt/state" \
            -o "Dir::Cache=$apt/cache" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root "$@"
    }
    apt_of update
    (cd "$apt" && apt_of download etcd-server etcd-client >/dev/null)
    for archive in "$apt"/*.deb; do
        dpkg-deb --extract "$archive" "$apt/root"
    done
    PATH=$apt/root/usr/bin:$PATH collect etcd etcdctl
}

# The names of these programs in the bundle are those that dockerd looks for on its PATH. All are of one version: a
# docker that is installed here may be another.
collect_docker() {
    local programs=(docker dockerd docker-init docker-proxy containerd containerd-shim-runc-v2 runc) program
    PATH=${UNPACKED:+$UNPACKED/usr/sbin:$UNPACKED/usr/bin:}$PATH collect "${programs[@]}"
    for program in "${programs[@]}"; do
        cat <<END

[[component]]
name = "$program"
kind = "program"
version = "Debian's"
path = "docker/$program"
file = "$program"
license = "Apache-2.0"
supplier = "Debian packages docker.io, containerd, runc and tini"
END
    done >>"$directory/bundle.toml"
}

mkdir -p "$directory"
"$sim" components "$directory"
"$sim" images "$directory"
[ -z "$system" ] || cp "$here/../../bundle/demo/bundle.toml" "$directory/bundle.toml"
case $system in
bullseye) collect_etcd_of bullseye ;;
trixie)
    collect etcd etcdctl
    collect_docker
    ;;
*) collect etcd etcdctl ;;
esac
