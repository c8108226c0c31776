#!/usr/bin/env bash
# Boots the disk of a VM as a system container: the same systemd, docker and network, at the speed of this
# machine, on this machine's kernel. It needs root and cgroup v1, and it sets kernel parameters that all share.
#
# usage: container.sh DIRECTORY NAMESPACE MEMORY BRIDGE_NAMESPACE DEVICE MAC
# DIRECTORY has disk.img and appliance.iso. NAMESPACE is the name of its network namespace, which is made anew at each
# boot; MEMORY is in MiB. Its network ends at DEVICE on the bridge `cloud` in BRIDGE_NAMESPACE. The guest agent listens
# on DIRECTORY/agent.sock.
set -euo pipefail

controllers=(cpu cpuacct memory blkio cpuset devices freezer pids)

# Puts this process into cgroups of its own, which the container sees as the roots.
enter_cgroups() {
    local controller group
    # systemd mounts the second version of cgroups beside the first one, if this machine has it there.
    for controller in "${controllers[@]}" systemd unified; do
        [ -e "/sys/fs/cgroup/$controller/cgroup.procs" ] || continue
        group=/sys/fs/cgroup/$controller/$namespace
        mkdir -p "$group"
        case $controller in
        cpuset)
            cat /sys/fs/cgroup/cpuset/cpuset.cpus >"$group/cpuset.cpus"
            cat /sys/fs/cgroup/cpuset/cpuset.mems >"$group/cpuset.mems"
            ;;
        memory)
            echo 1 >"$group/memory.use_hierarchy"
            echo "${memory}M" >"$group/memory.limit_in_bytes"
            ;;
        esac
        echo $$ >"$group/cgroup.procs"
    done
}

# A network without anything that an earlier boot left.
plug_in() {
    ip -n "$bridge" link delete "$device" 2>/dev/null || true
    ip netns delete "$namespace" 2>/dev/null || true
    ip netns add "$namespace"
    ip -n "$bridge" link add "$device" type veth peer name ens3 address "$mac" netns "$namespace"
    ip -n "$namespace" link set ens3 mtu 1450
    ip -n "$bridge" link set "$device" mtu 1450 master cloud up
}

mount_cgroups() {
    local controller
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for controller in "${controllers[@]}"; do
        mkdir "$root/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "$root/sys/fs/cgroup/$controller"
    done
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
}

# The usual devices, and nothing of this machine's disks.
make_devices() {
    local dev=$root/dev
    mount -t tmpfs -o mode=755 tmpfs "$dev"
    mkdir "$dev/net" "$dev/pts" "$dev/shm"
    mknod -m 666 "$dev/null" c 1 3
    mknod -m 666 "$dev/zero" c 1 5
    mknod -m 666 "$dev/full" c 1 7
    mknod -m 666 "$dev/random" c 1 8
    mknod -m 666 "$dev/urandom" c 1 9
    mknod -m 666 "$dev/tty" c 5 0
    mknod -m 600 "$dev/console" c 1 3
    mknod -m 644 "$dev/kmsg" c 1 11
    mknod -m 666 "$dev/net/tun" c 10 200
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$dev/pts"
    mount -t tmpfs tmpfs "$dev/shm"
    ln -s pts/ptmx "$dev/ptmx"
    ln -s /proc/self/fd "$dev/fd"
    ln -s /proc/self/fd/0 "$dev/stdin"
    ln -s /proc/self/fd/1 "$dev/stdout"
    ln -s /proc/self/fd/2 "$dev/stderr"
}

# Attaches a volume. The mount keeps its loop device for as long as the container lives.
attach() {
    local loop
    [ -e "$directory/$1.iso" ] || return 0
    mkdir -p "$root/volumes/$1"
    mount -o loop,ro "$directory/$1.iso" "$root/volumes/$1"
    loop=$(findmnt -n -o SOURCE "$root/volumes/$1")
    mknod -m 660 "$root$loop" b 7 "${loop##*/loop}"
}

# What the image of a VM has otherwise: the agent's port, a disk, and several sources of metadata to choose from.
adapt() {
    : >"$root/etc/fstab"
    echo 'datasource_list: [OpenStack, None]' >"$root/etc/cloud/cloud.cfg.d/99-container.cfg"
    mkdir -p "$root/agent" "$root/etc/systemd/system/multi-user.target.wants"
    mount --bind "$directory" "$root/agent"
    rm -f "$directory/agent.sock"
    cat >"$root/etc/systemd/system/container-agent.service" <<'UNIT'
[Unit]
DefaultDependencies=no
After=local-fs.target
[Service]
ExecStart=/usr/sbin/qemu-ga --method=unix-listen --path=/agent/agent.sock
Restart=always
UNIT
    ln -sf ../container-agent.service "$root/etc/systemd/system/multi-user.target.wants/"
}

# Takes from the containers of pods what this process itself may not do: to raise limits.
adapt_runc() {
    local runc=$root/usr/sbin/runc
    if [ ! -e "$runc" ] || [ -e "$runc.real" ]; then return 0; fi
    mv "$runc" "$runc.real"
    cat >"$runc" <<'RUNC'
#!/bin/sh
for word; do
    if [ "$last" = --bundle ]; then
        sed -i 's/"CAP_SYS_RESOURCE",//g; s/,"CAP_SYS_RESOURCE"//g; s/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/' "$word/config.json"
    fi
    last=$word
done
exec /usr/sbin/runc.real "$@"
RUNC
    chmod +x "$runc"
}

# This machine's kernel has everything built in. The parameters that all share are files of the container.
adapt_kernel() {
    local modules parameter
    modules=$root/lib/modules/$(uname -r)
    mkdir -p "$modules"
    printf 'kernel/%s.ko\n' br_netfilter ip_tables ip6_tables xt_set xt_mark xt_addrtype xt_multiport ipt_rpfilter \
        ipt_REJECT nf_conntrack_netlink ipip >"$modules/modules.builtin"
    for parameter in net/netfilter/nf_conntrack_max vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops; do
        mkdir -p "$root/run/parameters/${parameter%/*}"
        cat "$root/proc/sys/$parameter" >"$root/run/parameters/$parameter"
        mount --bind "$root/run/parameters/$parameter" "$root/proc/sys/$parameter"
    done
}

# Logs every write to the disk, and each flush, into writes.log.
log_writes() {
    # The log of a container that was killed.
    umount -l "$directory/logged.img" 2>/dev/null || true
    [ -e "$directory/writes.log" ] || return 0
    : >"$directory/logged.img"
    setpriv --pdeathsig KILL qemu-storage-daemon \
        --blockdev "driver=file,node-name=disk,filename=$directory/disk.img,cache.no-flush=on" \
        --blockdev "driver=file,node-name=log,filename=$directory/writes.log,cache.no-flush=on" \
        --blockdev driver=blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1 \
        --export "type=fuse,id=logged,node-name=logged,mountpoint=$directory/logged.img,writable=on" &
    until [ -s "$directory/logged.img" ]; do sleep 0.1; done
    disk=$directory/logged.img
}

# In the container's namespaces: becomes its init.
become_init() {
    root=$directory/root
    mount --make-rprivate /
    mkdir -p "$root"
    # Without this option, ext4 hides that a program forgot to flush a file that it renames.
    mount -o loop,noauto_da_alloc "$disk" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount_cgroups
    make_devices
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    cat /proc/sys/kernel/random/uuid >"$root/run/boot-id"
    mount --bind "$root/run/boot-id" "$root/proc/sys/kernel/random/boot_id"
    attach appliance
    adapt
    adapt_kernel
    adapt_runc
    mkdir -p "$root/old"
    cd "$root"
    pivot_root . old
    # shellcheck disable=SC2016
    exec chroot . /bin/sh -c 'umount -l /old && rmdir /old && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        product_name="OpenStack Nova" SYSTEMD_PROC_CMDLINE="systemd.unified_cgroup_hierarchy=0 $KERNEL_ARGUMENTS" /lib/systemd/systemd'
}

directory=$1 namespace=$2 memory=$3 bridge=$4 device=$5 mac=$6
disk=$directory/disk.img
if [ "${7-}" = init ]; then
    [ ! -e "$directory/writes.log" ] || disk=$directory/logged.img
    become_init
fi
log_writes
enter_cgroups
# A reboot ends the init with SIGHUP, which is 129 here.
code=129
while [ "$code" = 129 ]; do
    # Two containers would write to one disk.
    while [ -n "$(losetup -j "$disk")" ]; do sleep 0.1; done
    plug_in
    code=0
    setpriv --pdeathsig KILL ip netns exec "$namespace" \
        unshare --mount --pid --uts --ipc --cgroup --fork --kill-child "$0" "$@" init </dev/null || code=$?
done
exit "$code"
