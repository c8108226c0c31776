#!/bin/sh
# kubelet and kube-proxy v1.9 say `-w5`, which iptables-restore takes no longer (1.8.9 and newer):
# they would write no rule at all. `--wait=5` means the same to every version that knows either.
for argument do
    shift
    [ "$argument" != -w5 ] || argument=--wait=5
    set -- "$@" "$argument"
done
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec iptables-restore "$@"
