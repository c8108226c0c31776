#!/bin/sh
# Prints everything that a node could change on a machine. Logs, caches, and what the system itself writes all the time
# are left out; so are counters, identifiers that docker makes anew, and empty tables.

# Rules, chains of others, and policies that are not the usual one, each with its table. docker brings its own rules in
# another order when it starts again.
rules() {
    "$1" | awk '/^\*/ { table = $1 } /^:/ && $2 != "ACCEPT" { print table, $1, $2 } /^-/ { print table, $0 }' >"$all"
    of_docker='DOCKER| br-| docker0| 172\.1[78]\.'
    grep -v -E "$of_docker" "$all"
    grep -E "$of_docker" "$all" | sort
}
# A directory of the test.
all=/run/test/rules

for kind in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do
    echo "== $kind"
    rules $kind-save
done
echo '== ipset'
ipset save 2>/dev/null
echo '== links'
ip -o link | sed -e 's/^[0-9]*: //' -e 's/@if[0-9]*//' -e 's/veth[0-9a-f]*/veth/g' -e 's/link.ether [0-9a-f:]*//' \
    -e 's/link-netnsid [0-9]*//' | sort
echo '== addresses'
ip -o address | sed -e 's/^[0-9]*: //' -e 's/valid_lft.*//' | grep -v 'inet6 fe80' | sort
echo '== rules and routes'
ip rule
ip -6 rule
ip -4 route show table all
# The kernel makes the addresses of links a moment after the link.
ip -6 route show table all | grep -v -e veth -e fe80 -e ff00
echo '== neighbours'
ip neigh show proxy
echo '== mounts'
findmnt --list --noheadings --output TARGET,SOURCE,FSTYPE,OPTIONS |
    grep -v -e '^/run/user' -e '^/var/lib/docker' -e '^/run/docker' -e '^/proc/sys/fs/binfmt_misc' | sort
echo '== units'
# A unit that is not found is a name that systemd remembers for a while.
systemctl list-units --all --plain --no-legend | awk '$2 != "not-found" { print $1, $2, $3, $4 }' |
    grep -v -e '^session' -e '^run-' -e '^var-lib-docker' -e '^sys-' -e '^dev-' -e '^user' -e '^apt' -e '^docker-' \
        -e '^systemd-tmpfiles-clean' -e '^man-db' -e veth -e '^logrotate' -e '^e2scrub' -e '^fstrim' -e '^dpkg' | sort
echo '== unit files'
systemctl list-unit-files --plain --no-legend | grep -v -e '^run-' -e '^session' -e '^docker-' | sort
echo '== control groups of pods'
find /sys/fs/cgroup -maxdepth 2 -name 'kubepods*' | sort
echo '== docker'
docker ps --all --no-trunc --format '{{.ID}} {{.Names}} {{.Image}}'
docker images --format '{{.Repository}}:{{.Tag}}' | sort
docker volume ls --format '{{.Name}}' | sort
docker network ls --format '{{.Name}}' | sort
echo '== settings of the kernel'
sysctl --all 2>/dev/null | grep -v -e '^fs\.' -e 'random\.' -e nf_conntrack_count -e 'conf\.veth' -e 'neigh\.veth' \
    -e '^kernel\.ns_last_pid' -e '^kernel\.pty\.nr' -e '^net\.ipv4\.tcp_fastopen_key' -e '^kernel\.sched_domain' |
    sort
echo '== files in memory'
for path in /run /dev; do
    find $path -xdev \( -path /run/docker -o -path /run/containerd -o -path /run/systemd -o -path /run/udev \
        -o -path /run/user -o -path /run/log -o -path /run/cloud-init -o -path /run/test -o -path /dev/pts \) -prune \
        -o -printf '%p %M %u %g\n' | sort
done
echo '== configuration, with its content'
for path in /etc /root /usr/local /opt /home /srv; do
    find $path -xdev \( -path /root/appliance -o -name '.pwd.lock' -o -path '/etc/*-' \) -prune \
        -o -type f -printf '%M %u %g ' -exec sha256sum {} \; -o -printf '%M %u %g %p %l\n' | sort -k 5
done
echo '== files'
find / -xdev \( -path /etc -o -path /root -o -path /usr/local -o -path /opt -o -path /home -o -path /srv -o -path /proc \
    -o -path /sys -o -path /run -o -path /dev -o -path /tmp -o -path /var/log -o -path /var/cache -o -path /var/tmp \
    -o -path /var/backups -o -path /var/lib/docker -o -path /var/lib/containerd -o -path /var/lib/systemd \
    -o -path /var/lib/cloud -o -path /agent -o -path /volumes \) -prune \
    -o -type d -printf '%M %u %g %p\n' -o -printf '%M %u %g %p %l %s %T@\n' | sort -k 4
rm "$all"
