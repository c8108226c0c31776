#!/usr/bin/env bash
# Makes a golden image with Packer 1.6.6 or newer, or only validates the templates.
# usage: build.sh [build|validate] qemu|openstack [ARGUMENTS OF PACKER, such as -var NAME=VALUE]
set -euo pipefail
cd "$(dirname "$0")"

action=build
case ${1:-} in
build | validate)
    action=$1
    shift
    ;;
esac
target=${1:-}
case $target in
qemu | openstack) shift ;;
*)
    echo "error: no target; run: make image TARGET=qemu, or TARGET=openstack" >&2
    exit 2
    ;;
esac
command -v packer >/dev/null || {
    echo "error: packer is missing; install the package packer, or see https://developer.hashicorp.com/packer" >&2
    exit 1
}

# Newer versions need a file that lists the plugins with the builders. Packer 1.6 cannot read that file.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp ./*.pkr.hcl "$folder"
version=$(packer version | awk 'NR == 1 { sub(/^v/, "", $2); print $2 }')
if [ "$(printf '%s\n' 1.7.0 "$version" | sort -V | head -n 1)" = 1.7.0 ]; then
    cp plugins/*.pkr.hcl "$folder"
    packer init "$folder"
fi

variables=()
if [ "$target" = qemu ] && [[ "$*" != *accelerator=* ]]; then
    variables+=(-var "accelerator=$(./accelerator.sh)")
fi
# Paths in the files are relative to this directory.
packer "$action" -only="$target.appliance" "${variables[@]}" "$@" "$folder"
