#!/bin/bash
# Whether this machine is a node that works, whoever set it up: units, health endpoints, images, the node itself. These
# are the questions of `appliance status`, and one more: whether the cluster has the node as ready.
# usage: healthy.sh ETCDCTL…: the command that asks this machine's etcd
# It ends with 1 and says what is wrong.
set -u

fail() {
    echo "$*"
    exit 1
}

answers() {
    local code
    exec 3<>"/dev/tcp/127.0.0.1/$1" || fail "nothing listens on port $1"
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    read -r -t 5 _ code _ <&3
    exec 3>&-
    case $code in 2*) ;; *) fail "http://127.0.0.1:$1$2 answers ${code:-nothing}" ;; esac
}

export HOME=/root
for unit in docker etcd kube-apiserver kube-controller-manager kube-scheduler kube-calico kubelet kube-proxy; do
    systemctl is-active --quiet "$unit" || fail "$unit is not active"
done
answers 10252 /healthz 2>/dev/null
answers 10251 /healthz 2>/dev/null
answers 9099 /readiness 2>/dev/null
answers 10248 /healthz 2>/dev/null
answers 10256 /healthz 2>/dev/null
[ "$(kubectl get --raw /healthz 2>/dev/null)" = ok ] || fail 'kube-apiserver is not healthy'
ETCDCTL_API=3 "$@" endpoint health >/dev/null 2>&1 || fail 'etcd is not healthy'
while read -r image; do
    docker image inspect "$image" >/dev/null 2>&1 || fail "docker has no image $image"
done <"$(dirname "$0")/images"
kubectl get nodes 2>/dev/null | grep -q ' Ready ' || fail 'the node is not ready'
