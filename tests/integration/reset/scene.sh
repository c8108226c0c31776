#!/bin/sh
# A running system with a node, in namespaces of its own: real iptables, ipset, ip, umount and userdel; docker and
# systemctl are scripts. The operator's rules, sets, interfaces, routes and mounts must survive each scene.
# usage: scene.sh DIR SCENE…, below `unshare --mount --net --pid --fork`; DIR has `node`, `program` and `volume`
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

others() {
    for kind in iptables-legacy iptables-nft; do
        for table in filter nat raw mangle; do
            "$kind" -t "$table" -N mine
            "$kind" -t "$table" -A mine -s 10.0.0.9/32 -j RETURN
            "$kind" -t "$table" -A OUTPUT -m comment --comment 'say "KUBE-" and cali:' -j mine
        done
        "$kind" -A INPUT -p tcp --dport 22 -j ACCEPT
        "$kind" -P INPUT DROP
        "$kind" -P FORWARD DROP
        "$kind" -N DOCKER
        "$kind" -A FORWARD -o docker0 -j DOCKER
        "$kind" -t nat -N DOCKER
        "$kind" -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        "$kind" -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
    done
    ipset create allowed hash:ip
    ipset add allowed 10.0.0.9
    iptables-legacy -A INPUT -m set --match-set allowed src -j ACCEPT
    ip link set lo up
    ip link add eth9 address 02:00:00:00:00:09 type veth peer name wire address 02:00:00:00:00:08
    ip link set wire up
    ip address add 10.1.2.3/24 dev eth9
    ip link set eth9 up
    ip link add docker0 address 02:00:00:00:00:0a type bridge
    ip address add 172.17.0.1/16 dev docker0
    ip link add california address 02:00:00:00:00:0b type bridge
    ip route add default via 10.1.2.1 dev eth9
    ip route add 10.77.0.0/16 via 10.1.2.7 dev eth9
    ip route add blackhole 10.66.0.0/16 proto static
    ip rule add from 10.1.2.3 lookup 77
    echo 77 >/proc/sys/net/ipv4/ip_default_ttl
}

of_the_node() {
    for kind in iptables-legacy iptables-nft; do
        for chain in KUBE-SERVICES KUBE-FIREWALL cali-INPUT cali-FORWARD cali-fw-cali1; do
            "$kind" -N "$chain"
        done
        "$kind" -I INPUT -m comment --comment cali:Cz_u1IQiXIMmKD4c -j cali-INPUT
        "$kind" -A INPUT -j KUBE-FIREWALL
        "$kind" -A FORWARD -m comment --comment 'kubernetes "forward" rules' -j KUBE-SERVICES
        "$kind" -I FORWARD -m comment --comment cali:S93hcgKJrXEqnTfs -j ACCEPT
        "$kind" -A KUBE-SERVICES -j cali-FORWARD
        "$kind" -A cali-FORWARD -g cali-fw-cali1
        "$kind" -A mine -j KUBE-SERVICES
        "$kind" -t nat -N KUBE-POSTROUTING
        "$kind" -t nat -I POSTROUTING -j KUBE-POSTROUTING
        "$kind" -t nat -A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
        "$kind" -t raw -I PREROUTING -i cali+ -d 169.254.169.254/32 -j DROP
    done
    iptables -P FORWARD ACCEPT
    ipset create cali40all hash:ip
    ipset create cali40sets list:set
    ipset add cali40sets cali40all
    iptables-legacy -A cali-INPUT -m set --match-set cali40all src -j ACCEPT
    ip link add cali12345678901 type veth peer name pod1
    ip link set cali12345678901 up
    ip route add 172.20.9.1/32 dev cali12345678901
    ip route add blackhole 172.20.9.0/26 proto bird
    ip route add 172.20.8.0/26 via 10.1.2.9 dev eth9 proto bird
    ip route add 172.20.7.0/26 via 10.1.2.9 dev eth9 proto bird table 77
    ip route replace 169.254.1.1/32 dev lo
    echo 30000-32767 >/proc/sys/net/ipv4/ip_local_reserved_ports
    echo 64 >/proc/sys/net/ipv4/ip_default_ttl
}

state() {
    for family in iptables ip6tables; do
        for kind in legacy nft; do
            echo "== $family-$kind"
            "$family-$kind-save" | sed -e '/^#/d' -e 's/\[[0-9]*:[0-9]*\]//'
        done
    done
    echo "== ipset"
    ipset list
    echo "== ip"
    ip -d link | sed 's/^[0-9]*: //'
    ip address | sed 's/^[0-9]*: //'
    ip rule
    ip route show table all
    cat /proc/sys/net/ipv4/ip_local_reserved_ports /proc/sys/net/ipv4/ip_default_ttl
}

# Mounts the programs that the node's system needs.
bind() {
    target=$work$1
    mkdir -p "${target%/*}"
    if [ -d "$1" ]; then
        mkdir -p "$target"
    elif [ ! -e "$target" ]; then
        : >"$target"
    fi
    mount --bind "$(readlink -f "$1")" "$target"
}

system() {
    rm -rf "$work"
    cp -a "$dir/node" "$work"
    mkdir -p "$work/proc" "$work/run/units" "$work/tmp" "$work/dev"
    for library in /usr/lib/x86_64-linux-gnu /lib/x86_64-linux-gnu /lib64; do
        bind "$library"
    done
    for program in sh rm ls sleep umount; do
        bind "/bin/$program"
    done
    for program in ip ipset iptables userdel; do
        bind "/usr/sbin/$program"
    done
    for family in iptables ip6tables; do
        for kind in legacy nft; do
            bind "/usr/sbin/$family-$kind-save"
            bind "/usr/sbin/$family-$kind-restore"
        done
    done
    bind /dev/null
    : >"$work/program"
    mount --bind "$dir/program" "$work/program"
    mount -t proc proc "$work/proc"
    : >"$work/run/units/appliance-renew.timer"
    for unit in kubelet kube-proxy etcd docker; do
        : >"$work/run/units/$unit.service"
    done
    : >"$work/run/pods"
    : >"$work/run/image-mine"
    : >"$work/run/image-example.org-pause:3.0"
    mkdir -p "$work$volume"
    mount --bind "$dir/volume" "$work$volume"
}

reset() {
    chroot "$work" /program reset --yes --data --keys
}

fail() {
    echo "FAILED: $*"
    cat "$work/var/log/asked" || :
    exit 1
}

# Runs it, and expects this exit code and this text.
expect() {
    code=0
    reset >"$dir/said" 2>&1 || code=$?
    cat "$dir/said"
    [ "$code" = "$1" ] || fail "exit code $code, not $1"
    grep -q "$2" "$dir/said" || fail "it does not say: $2"
}

ended() {
    for left in run/pods run/image-example.org-pause:3.0 etc/systemd/system/etcd.service var/lib/etcd \
        var/lib/kubelet var/lib/appliance etc/kubernetes opt/appliance; do
        [ ! -e "$work/$left" ] || fail "$left is still there: $(ls -R "$work/$left")"
    done
    for kept in run/image-mine run/units/docker.service; do
        [ -e "$work/$kept" ] || fail "$kept is gone"
    done
    [ -z "$(ls "$work"/run/units/kube* 2>/dev/null)" ] || fail "units run"
    ! grep -q appliance "$work/etc/passwd" || fail "a user is still there"
    [ "$(cat "$dir/volume/data")" = theirs ] || fail "the content of a volume is gone"
}

# One scene in a mount namespace of its own.
scene() {
    system
    case $1 in
    plain) expect 0 'is not a node any more' ;;
    stopped)
        rm "$work/run/units/docker.service"
        expect 0 'is not a node any more'
        [ ! -e "$work/run/units/docker.service" ] || fail "docker is not stopped again"
        : >"$work/run/units/docker.service"
        ;;
    busy)
        (cd "$work$volume" && exec sleep 600) &
        until [ "$(readlink "/proc/$!/cwd")" = "$work$volume" ]; do :; done
        expect 1 "is in use by process $! (.sleep 600.)"
        kill "$!"
        wait "$!" || :
        expect 0 'is not a node any more'
        ;;
    silent)
        : >"$work/run/docker-hangs"
        expect 1 'docker does not answer'
        [ -e "$work/run/pods" ] || fail "pods are gone"
        rm "$work/run/docker-hangs"
        expect 0 'is not a node any more'
        ;;
    cut)
        code=0
        strace -f -qq -o /dev/null -e trace=clone,clone3,vfork \
            -e inject=clone,clone3,vfork:signal=SIGKILL:when="$2" \
            chroot "$work" /program reset --yes --data --keys >"$dir/said" 2>&1 || code=$?
        if [ "$code" = 0 ]; then
            : >"$dir/uncut"
        else
            [ "$code" = 137 ] || fail "$(cat "$dir/said")"
            echo "killed at start $2 of a program"
            expect 0 .
        fi
        ;;
    esac
    ended
}

dir=$1
work=$dir/work
volume=/var/lib/kubelet/pods/a/volumes/b
shift
if [ "$1" = scene ]; then
    shift
    scene "$@"
    exit
fi
mount -t proc proc /proc
for all in all default; do
    echo 1 >"/proc/sys/net/ipv6/conf/$all/disable_ipv6"
done
others
state >"$dir/before"

play() {
    echo "== scene $*"
    of_the_node
    unshare --mount sh "$0" "$dir" scene "$@" || exit 1
    state >"$dir/after"
    diff -u "$dir/before" "$dir/after" || exit 1
}

for name; do
    if [ "$name" = cuts ]; then
        number=1
        while [ ! -e "$dir/uncut" ]; do
            play cut "$number"
            number=$((number + STEP))
        done
    else
        play "$name"
    fi
done
echo ALL SCENES PLAYED
