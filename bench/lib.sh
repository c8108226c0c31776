#!/usr/bin/env bash
# What the families of `make bench` share; they source it. run.sh sets BUILDER, APPLIANCE, PROGRAMS and WORK, a
# directory that all families of a run use.
# shellcheck disable=SC2034 # the families use the variables
set -euo pipefail

# How often a short measurement is repeated. The shortest time counts: others use this machine, too.
REPEAT=${REPEAT:-3}
# The definition and the files of the bundle that is packed and unpacked, its payload, and what others make of the same
# files: see `have_payload` and `have_peers`.
DEFINITION=$WORK/definition
FILES=$WORK/files
PAYLOAD=$WORK/payload
SOLID_XZ=$WORK/files.tar.xz
SOLID_ZSTD=$WORK/files.tar.zst
export DEFLATED=$WORK/deflated

# The bytes of files, or of the standard input.
bytes() {
    cat "$@" | wc -c
}

ratio() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'
}

# The milliseconds that a command takes.
spent() {
    local start
    start=$(date +%s%N)
    "$@" >/dev/null
    echo $((($(date +%s%N) - start) / 1000000))
}

smaller() {
    echo $(($1 < $2 ? $1 : $2))
}

# What a command uses: milliseconds on the clock, milliseconds of processor time of it and its children, and the
# most memory of one of them in MB. The output of the command goes to the file $WORK/said.
used() {
    python3 - "$WORK/said" "$@" <<'PYTHON'
import os, subprocess, sys, time
begun = time.monotonic()
with open(sys.argv[1], "w") as said:
    child = subprocess.Popen(sys.argv[2:], stdout=said, stderr=said)
    # Only of this child: python itself may have been started by another program that had some.
    _, status, usage = os.wait4(child.pid, 0)
took = time.monotonic() - begun
if status:
    sys.exit(f"{' '.join(sys.argv[2:])}: exit code {os.waitstatus_to_exitcode(status)}\n{open(sys.argv[1]).read()}")
print(f"{took * 1e3:.1f} {(usage.ru_utime + usage.ru_stime) * 1e3:.1f} {usage.ru_maxrss * 1024 / 1e6:.1f}")
PYTHON
}

# The tests of this project that measure something print `name value` lines among others.
measured_by_test() {
    local log
    log=$WORK/test.log
    cargo test --locked --test integration -- --ignored --nocapture --test-threads=1 "$1" >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        return 1
    }
    # The first line of a test comes behind its name.
    sed -E -n -e 's/^test [^ ]+ \.\.\. //' -e '/^[a-z][a-z0-9_]* [0-9.a-z]+$/p' "$log"
}

# Decides whether the machines of a family are VMs or containers, and prints it: MACHINES says so, or whether KVM works.
# Without it, VMs are emulated, and their times say little about machines.
choose_machines() {
    if [ -z "${MACHINES:-}" ]; then
        case $("$VM" accelerator) in
        kvm) MACHINES=vms ;;
        *) MACHINES=containers ;;
        esac
        export MACHINES
    fi
    echo "machines $MACHINES"
}

# Programs, and the names of components that a node cannot do without. Large Go programs, as those of Kubernetes are.
readonly STAND_FOR=(
    kube-apiserver=dockerd
    kube-controller-manager=containerd
    kube-scheduler=docker-registry
    kubelet=docker
    kube-proxy=ctr
    kubectl=docker-proxy
    calicoctl=runc
    containerd-shim=containerd-shim-runc-v2
    etcd=etcd
    etcdctl=etcdctl
)

# An image as `docker save` writes it, with next to nothing in it.
write_image() {
    python3 - "$1" "$2" <<'PYTHON'
import hashlib, io, json, sys, tarfile
def tarball(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
layer = tarball([("name", sys.argv[1].encode())])
identifier = "sha256:" + hashlib.sha256(layer).hexdigest()
config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [identifier]}}
config = json.dumps(config).encode()
name = hashlib.sha256(config).hexdigest() + ".json"
manifest = [{"Config": name, "RepoTags": [sys.argv[1]], "Layers": ["layer.tar"]}]
files = [("layer.tar", layer), (name, config), ("manifest.json", json.dumps(manifest).encode())]
with open(sys.argv[2], "wb") as image:
    image.write(tarball(files))
PYTHON
}

component() {
    printf '[[component]]\nname = "%s"\nkind = "%s"\nversion = "-"\npath = "%s"\nfile = "%s"\n' "$@"
}

# The images that every bundle has.
readonly IMAGES=(calico-node calico-kube-controllers kube-dns dnsmasq-nanny dns-sidecar dashboard pause)

# A bundle whose large programs are those of Debian's packages. Its images are next to nothing.
define_bundle() {
    local pair program image
    for pair in "${STAND_FOR[@]}"; do
        program=${pair#*=}
        cp -L "$(tool "$program")" "$FILES/$program"
        component "${pair%%=*}" program "bin/${pair%%=*}" "$program"
    done
    for image in "${IMAGES[@]}"; do
        write_image "example.org/$image:1" "$FILES/$image.tar"
        component "$image" image "images/$image.tar" "$image.tar"
        printf 'reference = "example.org/%s:1"\n' "$image"
    done
}

# A bundle with the programs in PROGRAMS, which may be none that a node could use.
define_programs() {
    local path name
    for path in "$PROGRAMS"/*; do
        [ -f "$path" ] || continue
        name=${path##*/}
        ln -s "$path" "$FILES/$name"
        component "$name" program "bin/$name" "$name"
    done
}

# A program of the Debian packages that are unpacked for the tests: another one of the same name may be installed.
tool() {
    PATH=${UNPACKED:+$UNPACKED/usr/sbin:$UNPACKED/usr/bin:}$PATH command -v "$1"
}

pack() {
    "$BUILDER" bundle pack --bundle "$DEFINITION" --components "$1" --cache "$WORK/cache" --output "$PAYLOAD" 2>/dev/null
}

# Defines the bundle: that of PROGRAMS, if it has a bundle.toml; the programs in it; or some of Debian's.
have_definition() {
    local file new=$WORK/bundle.toml
    [ ! -e "$DEFINITION/bundle.toml" ] || return 0
    mkdir -p "$DEFINITION" "$FILES"
    if [ -e "$PROGRAMS/bundle.toml" ]; then
        cp "$PROGRAMS/bundle.toml" "$new"
        sed -n 's/^file = "\(.*\)"/\1/p' "$new" | while read -r file; do
            ln -s "$PROGRAMS/$file" "$FILES/$file"
        done
    else
        printf '[bundle]\nname = "bench"\nkubernetes = "v1.9.0"\ndescription = "Programs to measure with."\n' >"$new"
        if [ -n "$PROGRAMS" ]; then define_programs; else define_bundle; fi >>"$new"
    fi
    mv "$new" "$DEFINITION/"
}

# Packs it, unless an earlier family has. The time is in $WORK/pack_ms.
have_payload() {
    have_definition
    [ -e "$PAYLOAD" ] || spent pack "$FILES" >"$WORK/pack_ms"
}

# All components in one archive, in a fixed order.
solid() {
    tar -C "$FILES" --sort=name --mtime=@0 -chf - .
}

solid_xz() {
    solid | xz -9e -T1 >"$SOLID_XZ"
}

# What others make of the same files, unless an earlier family has made it: `tar -cJ`; as k3s does, one archive in zstd
# with a long window; as k0s does, each file deflated by itself. The time of the first is in $WORK/solid_xz_ms.
have_peers() {
    have_definition
    [ ! -e "$DEFLATED" ] || return 0
    spent solid_xz >"$WORK/solid_xz_ms"
    solid | zstd -q -16 --long=25 -T0 >"$SOLID_ZSTD"
    mkdir "$DEFLATED"
    for_each_file "$FILES" deflate
}

deflate() {
    gzip -9 -n -c "$1" >"$DEFLATED/${1##*/}.gz"
}

# Runs a function for each file in a directory, two at a time.
for_each_file() {
    export -f "${2?}"
    find -L "$1" -type f -print0 | xargs -0 -P2 -I{} bash -euc "$2 \"\$1\"" bash {}
}

# A directory that an installation takes for a machine. It is on the disk, not in memory, as a machine's is.
make_root() {
    local root=$1 name
    mkdir -p "$root/usr/lib/systemd" "$root/usr/bin" "$root/lib/systemd/system" "$root/etc"
    touch "$root/usr/lib/systemd/systemd" "$root/usr/bin/docker" "$root/lib/systemd/system/docker.service"
    for name in apparmor_parser conntrack ethtool ip ipset iptables mount nsenter socat; do
        touch "$root/usr/bin/$name"
    done
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
}

# Sets INSTALL to the command with which a program installs a master in a directory: directory, program, more arguments.
installation() {
    INSTALL=("$2" install --root "$1" --metadata-dir tests/fixtures/metadata/queens-static --role master "${@:3}")
}
