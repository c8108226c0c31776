#!/usr/bin/env bash
# Installs a package in a fresh Debian, uses it, and purges it: nothing starts, and nothing of a node goes. As root.
# usage: try.sh DEB
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

deb=$(realpath "$1")
suite=bookworm
work=$(mktemp -d)
clean_up() {
    umount "$work/root/proc" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT

fail() {
    echo "error: $*" >&2
    exit 1
}

inside() {
    chroot "$work/root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"
}

# The archive from which this machine installs its own packages.
mirror() {
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(ORIGIN) $(SUITE) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 !~ /security|updates|backports/ { print $3; exit }'
}

# Every file, without those that dpkg and man write for themselves.
files() {
    find "$work/root" -xdev -path "$work/root/proc" -prune -o -path "$work/root/var/lib/dpkg" -prune -o \
        -path "$work/root/var/cache" -prune -o -path "$work/root/var/log" -prune -o -printf '%P\n' | sort
}

debootstrap --variant=minbase --include=bash-completion,man-db "$suite" "$work/root" "$(mirror)" >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; fail "debootstrap failed"; }
mount -t proc proc "$work/root/proc"
# A node, whose keys and data must stay.
for file in etc/kubernetes/ca/ca-key.pem etc/appliance/config.yaml var/lib/appliance/state.json usr/local/bin/appliance; do
    install -D /dev/null "$work/root/$file"
done
files >"$work/before"

cp "$deb" "$work/root/tmp/appliance.deb"
inside dpkg --install /tmp/appliance.deb >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "dpkg --install failed"; }
! inside ls /etc/systemd/system/multi-user.target.wants/appliance-install.service >/dev/null 2>&1 ||
    fail "the installation enabled a unit"
[ -z "$(ls "$work/root/var/lib/dpkg/info/"appliance.{preinst,postinst,prerm,postrm} 2>/dev/null)" ] ||
    fail "the package has scripts"
inside /usr/bin/appliance version
inside man --pager=cat appliance >"$work/page" 2>"$work/log" || fail "man appliance: $(cat "$work/log")"
grep -q OpenStack "$work/page" || fail "the manual page of appliance says nothing"
inside man --pager=cat appliance-install >/dev/null 2>&1 || fail "man appliance-install"
# What bash-completion does when somebody presses Tab.
# shellcheck disable=SC2016 # variables of the shell inside
words=$(inside bash -c 'source /usr/share/bash-completion/bash_completion && _completion_loader appliance
    COMP_WORDS=(appliance vers) COMP_CWORD=1; complete -p appliance >&2; _appliance appliance vers appliance; echo "${COMPREPLY[*]}"')
[ "$words" = version ] || fail "the completion of \`appliance vers\` is: $words"
rm "$work/root/tmp/appliance.deb"
inside dpkg --purge appliance >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "dpkg --purge failed"; }
files >"$work/after"
diff "$work/before" "$work/after" >&2 || fail "purging leaves or removes files"
echo "release: installed, used and purged in a fresh $suite: ${deb##*/}"
