#!/bin/sh
# kubelet and kube-proxy v1.9 use the option `-w5`, which iptables-restore 1.8.9 and newer refuse:
# no rule would be written at all. `--wait=5` means the same in every version.
for argument do
    shift
    [ "$argument" != -w5 ] || argument=--wait=5
    set -- "$@" "$argument"
done
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec iptables-restore "$@"
