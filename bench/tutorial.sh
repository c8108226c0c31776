#!/bin/bash
# The tutorial's commands for its cluster with certificates, for one machine that is master and worker. A person types
# them one after the other and looks at each result; this script waits only where the next command needs it. Programs
# are in /home/openlab/bin, images in the directory of this script. Mistakes of the tutorial that keep services from
# starting are corrected: comments between continued lines, a space in --cni-bin-dir, other ranges for pods.
# usage: tutorial.sh
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
address=192.168.1.102
name=server02
bin=/home/openlab/bin
ca=/etc/kubernetes/ca
units=/lib/systemd/system
export HOME=/root PATH=$bin:$PATH
cd /root

set_up_docker() {
    sed -i '/^ExecStart=/i ExecStartPost=/sbin/iptables -I FORWARD -s 0.0.0.0/0 -j ACCEPT' "$units/docker.service"
    systemctl daemon-reload
    service docker restart
    for image in "$here"/*.tar; do
        docker load --quiet --input "$image" >/dev/null
    done
}

set_up_system() {
    [ -e /proc/sys/net/bridge ] || modprobe br_netfilter
    cat >/etc/sysctl.d/k8s.conf <<CONF
net.ipv4.ip_forward = 1
net.ipv4.conf.all.rp_filter = 1
net.bridge.bridge-nf-call-ip6tables = 1
net.bridge.bridge-nf-call-iptables = 1
CONF
    sysctl -q -p /etc/sysctl.d/k8s.conf
    printf '%s %s\n' "$address" "$name" >>/etc/hosts
}

# Writes the request for a certificate: directory, name of the file, common name, organization, names in it.
request() {
    local directory=$1 file=$2 common=$3 organization=$4 hosts=''
    shift 4
    [ $# = 0 ] || hosts=$(printf ',"%s"' "$@")
    mkdir -p "$directory"
    cat >"$directory/$file-csr.json" <<JSON
{"CN": "$common", "hosts": [${hosts#,}], "key": {"algo": "rsa", "size": 2048},
 "names": [{"C": "CN", "ST": "BeiJing", "L": "XS", "O": "$organization", "OU": "System"}]}
JSON
}

make_authority() {
    request "$ca" ca kubernetes k8s
    cat >"$ca/ca-config.json" <<JSON
{"signing": {"default": {"expiry": "87600h"}, "profiles": {"kubernetes": {"expiry": "87600h",
 "usages": ["signing", "key encipherment", "server auth", "client auth"]}}}}
JSON
    cd "$ca"
    cfssl gencert -loglevel=5 -initca ca-csr.json | cfssljson -bare ca
}

# Makes a certificate below its own directory.
certificate() {
    request "$ca/$1" "$@"
    cd "$ca/$1"
    cfssl gencert -loglevel=5 -ca="$ca/ca.pem" -ca-key="$ca/ca-key.pem" -config="$ca/ca-config.json" \
        -profile=kubernetes "$1-csr.json" | cfssljson -bare "$1"
}

# Writes the unit of a service from standard input, and starts it.
start() {
    cat >"$units/$1.service"
    systemctl daemon-reload
    systemctl enable --quiet "$1.service"
    service "$1" start
}

start_etcd() {
    certificate etcd etcd k8s 127.0.0.1 "$address"
    mkdir -p /var/lib/etcd
    start etcd <<UNIT
[Unit]
Description=Etcd Server
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
WorkingDirectory=/var/lib/etcd/
ExecStart=$bin/etcd \\
  --name=$address \\
  --enable-v2=true \\
  --listen-client-urls=https://$address:2379,http://127.0.0.1:2379 \\
  --advertise-client-urls=https://$address:2379 \\
  --data-dir=/var/lib/etcd \\
  --trusted-ca-file=$ca/ca.pem \\
  --cert-file=$ca/etcd/etcd.pem \\
  --key-file=$ca/etcd/etcd-key.pem
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
UNIT
    ETCDCTL_API=3 etcdctl --endpoints="https://$address:2379" --cacert="$ca/ca.pem" --cert="$ca/etcd/etcd.pem" \
        --key="$ca/etcd/etcd-key.pem" endpoint health 2>/dev/null
}

start_api_server() {
    certificate kubernetes kubernetes k8s 127.0.0.1 "$address" 10.68.0.1 kubernetes kubernetes.default \
        kubernetes.default.svc kubernetes.default.svc.cluster kubernetes.default.svc.cluster.local
    token=$(head -c 16 /dev/urandom | od -An -t x | tr -d ' ')
    echo "$token,kubelet-bootstrap,10001,\"system:kubelet-bootstrap\"" >"$ca/kubernetes/token.csv"
    start kube-apiserver <<UNIT
[Unit]
Description=Kubernetes API Server
After=network.target

[Service]
ExecStart=$bin/kube-apiserver \\
  --admission-control=NamespaceLifecycle,LimitRanger,ServiceAccount,DefaultStorageClass,ResourceQuota,NodeRestriction \\
  --insecure-bind-address=127.0.0.1 \\
  --kubelet-https=true \\
  --bind-address=$address \\
  --authorization-mode=Node,RBAC \\
  --enable-bootstrap-token-auth \\
  --token-auth-file=$ca/kubernetes/token.csv \\
  --tls-cert-file=$ca/kubernetes/kubernetes.pem \\
  --tls-private-key-file=$ca/kubernetes/kubernetes-key.pem \\
  --client-ca-file=$ca/ca.pem \\
  --service-account-key-file=$ca/ca-key.pem \\
  --etcd-cafile=$ca/ca.pem \\
  --etcd-certfile=$ca/kubernetes/kubernetes.pem \\
  --etcd-keyfile=$ca/kubernetes/kubernetes-key.pem \\
  --service-cluster-ip-range=10.68.0.0/16 \\
  --service-node-port-range=20000-40000 \\
  --etcd-servers=https://$address:2379 \\
  --allow-privileged=true \\
  --event-ttl=1h \\
  --v=2
Restart=on-failure
RestartSec=5
Type=notify
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
UNIT
}

start_controller_manager() {
    start kube-controller-manager <<UNIT
[Unit]
Description=Kubernetes Controller Manager

[Service]
ExecStart=$bin/kube-controller-manager \\
  --address=127.0.0.1 \\
  --master=http://127.0.0.1:8080 \\
  --allocate-node-cidrs=true \\
  --service-cluster-ip-range=10.68.0.0/16 \\
  --cluster-cidr=172.20.0.0/16 \\
  --cluster-name=kubernetes \\
  --leader-elect=true \\
  --cluster-signing-cert-file=$ca/ca.pem \\
  --cluster-signing-key-file=$ca/ca-key.pem \\
  --service-account-private-key-file=$ca/ca-key.pem \\
  --root-ca-file=$ca/ca.pem \\
  --v=2
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
}

start_scheduler() {
    start kube-scheduler <<UNIT
[Unit]
Description=Kubernetes Scheduler

[Service]
ExecStart=$bin/kube-scheduler \\
  --address=127.0.0.1 \\
  --master=http://127.0.0.1:8080 \\
  --leader-elect=true \\
  --v=2
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
}

# Writes a kubeconfig, which the tutorial's `kubectl config` commands also do: file, user, and who the user is.
kubeconfig() {
    cat >"$1" <<CONFIG
apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster: {server: "https://$address:6443", certificate-authority: $ca/ca.pem}
users:
- name: $2
  user: {$3}
contexts:
- name: default
  context: {cluster: kubernetes, user: $2}
current-context: default
CONFIG
}

# With the certificate of that name.
kubeconfig_of() {
    kubeconfig "$1" "$2" "client-certificate: $ca/$2/$2.pem, client-key: $ca/$2/$2-key.pem"
}

set_up_kubectl() {
    certificate admin admin system:masters
    mkdir -p /root/.kube
    kubeconfig_of /root/.kube/config admin
    kubectl get componentstatus
}

start_calico() {
    certificate calico calico k8s
    start kube-calico <<UNIT
[Unit]
Description=calico node
After=docker.service
Requires=docker.service

[Service]
User=root
PermissionsStartOnly=true
ExecStart=/usr/bin/docker run --net=host --privileged --name=calico-node \\
  -e ETCD_ENDPOINTS=https://$address:2379 \\
  -e ETCD_CA_CERT_FILE=$ca/ca.pem \\
  -e ETCD_CERT_FILE=$ca/calico/calico.pem \\
  -e ETCD_KEY_FILE=$ca/calico/calico-key.pem \\
  -e NODENAME=$name \\
  -e CALICO_LIBNETWORK_ENABLED=true \\
  -e CALICO_NETWORKING_BACKEND=bird \\
  -e CALICO_DISABLE_FILE_LOGGING=true \\
  -e CALICO_IPV4POOL_CIDR=172.20.0.0/16 \\
  -e CALICO_IPV4POOL_IPIP=off \\
  -e FELIX_DEFAULTENDPOINTTOHOSTACTION=ACCEPT \\
  -e FELIX_IPV6SUPPORT=false \\
  -e FELIX_LOGSEVERITYSCREEN=info \\
  -e FELIX_IPINIPMTU=1440 \\
  -e FELIX_HEALTHENABLED=true \\
  -e IP=$address \\
  -v /var/run/calico:/var/run/calico \\
  -v /lib/modules:/lib/modules \\
  -v /run/docker/plugins:/run/docker/plugins \\
  -v /var/run/docker.sock:/var/run/docker.sock \\
  -v /var/log/calico:/var/log/calico \\
  -v $ca:$ca \\
  $(sed -n '/node:/p' "$here/images")
ExecStop=/usr/bin/docker rm -f calico-node
Restart=always
RestartSec=10

[Install]
WantedBy=multi-user.target
UNIT
}

# The kubelet asks for its certificate, and a person lets it have one.
start_kubelet() {
    kubectl create -f - <<YAML
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kubelet-bootstrap}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:node-bootstrapper}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: kubelet-bootstrap}
YAML
    kubeconfig /etc/kubernetes/bootstrap.kubeconfig kubelet-bootstrap "token: $token"
    mkdir -p /var/lib/kubelet /etc/cni/net.d
    cat >/etc/cni/net.d/10-calico.conf <<JSON
{"name": "calico-k8s-network", "cniVersion": "0.1.0", "type": "calico", "nodename": "$name", "log_level": "info",
 "etcd_endpoints": "https://$address:2379", "etcd_ca_cert_file": "$ca/ca.pem",
 "etcd_cert_file": "$ca/calico/calico.pem", "etcd_key_file": "$ca/calico/calico-key.pem",
 "ipam": {"type": "calico-ipam"}, "kubernetes": {"kubeconfig": "/etc/kubernetes/kubelet.kubeconfig"}}
JSON
    start kubelet <<UNIT
[Unit]
Description=Kubernetes Kubelet
After=docker.service
Requires=docker.service

[Service]
WorkingDirectory=/var/lib/kubelet
ExecStart=$bin/kubelet \\
  --address=$address \\
  --hostname-override=$name \\
  --pod-infra-container-image=$(sed -n '/pause/p' "$here/images") \\
  --bootstrap-kubeconfig=/etc/kubernetes/bootstrap.kubeconfig \\
  --kubeconfig=/etc/kubernetes/kubelet.kubeconfig \\
  --cert-dir=$ca/kubelet \\
  --network-plugin=cni \\
  --cni-conf-dir=/etc/cni/net.d \\
  --cni-bin-dir=$bin \\
  --cluster-dns=10.68.0.2 \\
  --cluster-domain=cluster.local. \\
  --allow-privileged=true \\
  --fail-swap-on=false \\
  --logtostderr=true \\
  --v=2
ExecStartPost=/sbin/iptables -A INPUT -s 10.0.0.0/8 -p tcp --dport 4194 -j ACCEPT
ExecStartPost=/sbin/iptables -A INPUT -s 172.16.0.0/12 -p tcp --dport 4194 -j ACCEPT
ExecStartPost=/sbin/iptables -A INPUT -s 192.168.0.0/16 -p tcp --dport 4194 -j ACCEPT
ExecStartPost=/sbin/iptables -A INPUT -p tcp --dport 4194 -j DROP
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
    until kubectl get csr 2>/dev/null | grep -q Pending; do sleep 0.1; done
    kubectl get csr | grep Pending | awk '{ print $1 }' | xargs kubectl certificate approve
}

start_proxy() {
    certificate kube-proxy system:kube-proxy k8s
    kubeconfig_of /etc/kubernetes/kube-proxy.kubeconfig kube-proxy
    mkdir -p /var/lib/kube-proxy
    start kube-proxy <<UNIT
[Unit]
Description=Kubernetes Kube-Proxy Server
After=network.target

[Service]
WorkingDirectory=/var/lib/kube-proxy
ExecStart=$bin/kube-proxy \\
  --bind-address=$address \\
  --hostname-override=$name \\
  --kubeconfig=/etc/kubernetes/kube-proxy.kubeconfig \\
  --logtostderr=true \\
  --v=2
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
UNIT
}

set_up_docker
set_up_system
make_authority
start_etcd
start_api_server
start_controller_manager
start_scheduler
set_up_kubectl
start_calico
start_kubelet
start_proxy
until "$here/healthy.sh" etcdctl --endpoints="https://$address:2379" --cacert="$ca/ca.pem" --cert="$ca/etcd/etcd.pem" \
    --key="$ca/etcd/etcd-key.pem"; do sleep 0.1; done
