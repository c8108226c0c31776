#!/usr/bin/env bash
# Creates or removes a cluster of appliance nodes with the openstack client. See --help.
set -euo pipefail

usage() {
    cat <<'USAGE'
Creates a Kubernetes v1.9 cluster of appliance nodes with the openstack client: security groups, server
groups, ports, servers that all boot with the same user-data, and a floating IP for the API server.

  cluster.sh create --user-data FILE --image IMAGE --flavor FLAVOR --network NETWORK --subnet SUBNET
                    --clients RANGE [option …]
  cluster.sh delete [--name NAME]

If it fails, run it again: it continues, and uses every resource that has the right name as it is.

  --user-data FILE       the user-data of all servers, written by `appliance user-data`
  --image IMAGE          a golden image, or a cloud image if the user-data delivers the appliance
  --flavor FLAVOR        for all servers; masters need at least 2 CPUs, 2 GiB of memory and 20 GB of disk
  --master-flavor FLAVOR for masters [the same]
  --network NETWORK      the network of the servers, which exists already
  --subnet SUBNET        the IPv4 subnet of that network, which exists already
  --clients RANGE        the clients that may reach the API server and NodePorts, such as 192.0.2.0/24
  --name NAME            the name of the cluster [kubernetes]
  --masters N            the number of masters: 1 or 3; with three, the cluster continues when one is lost [1]
  --workers N            the number of workers [2]
  --external-network NET the external network of a floating IP for the first master [no floating IP]
  --key NAME             a key pair for SSH; no rule here opens the SSH port
  --security-group ID    one more security group for every server, such as one for SSH; can be repeated
  --policy POLICY        anti-affinity or soft-anti-affinity [anti-affinity]
  --pod-cidr RANGE       the setting podCIDR [172.20.0.0/16]
  --service-cidr RANGE   the setting serviceCIDR [10.68.0.0/16]
  --ipip WHEN            the setting ipip: off, cross-subnet or always [off]
  --node-ports RANGE     the setting nodePortRange [20000-40000]
USAGE
}

refuse() {
    echo "cluster.sh: $*; nothing was changed; for help, run: cluster.sh --help" >&2
    exit 2
}

# The open ports of nodes. A test compares them with the table in src/nodespec/ports.rs.
# Columns: name, role of the node with the open port, source, protocol, ports, when
openings() {
    cat <<TABLE
bgp nodes nodes tcp 179:179 always
tunnel nodes nodes 4 - tunnelled
api_server masters nodes tcp 6443:6443 always
api_clients masters clients tcp 6443:6443 always
calico_datastore masters nodes tcp 2378:2378 tls
etcd_clients masters masters tcp 2379:2379 tls
etcd_peers masters masters tcp 2380:2380 always
join masters nodes tcp 6444:6444 always
renew masters nodes tcp 6445:6445 always
kubelet workers masters tcp 10250:10250 always
node_ports_tcp workers clients tcp ${node_ports/-/:} always
node_ports_udp workers clients udp ${node_ports/-/:} always
node_ports_nodes_tcp workers nodes tcp ${node_ports/-/:} always
node_ports_nodes_udp workers nodes udp ${node_ports/-/:} always
pods workers pods any - routed
pods_nodes workers nodes any - routed
TABLE
}

holds() {
    case $1 in
        always | tls) true ;;
        routed) [ "$ipip" != always ] ;;
        tunnelled) [ "$ipip" != off ] ;;
    esac
}

# KIND NAME ARGUMENT…: the identifier of the resource. If none has this name, creates it with these arguments.
ensure() {
    local kind=$1 name=$2
    shift 2
    # shellcheck disable=SC2086 # a kind is several words
    openstack $kind show -f value -c id "$name" 2>/dev/null ||
        openstack $kind create -f value -c id "$@" "$name"
}

make_rule() {
    local name=$1 on=$2 from=$3 protocol=$4 ports=$5
    local rule=(--ingress --ethertype IPv4 --description "$name" --protocol "$protocol") said
    [ "$ports" = - ] || rule+=(--dst-port "$ports")
    case $from in
        pods) rule+=(--remote-ip "$pod_cidr") ;;
        clients) rule+=(--remote-ip "$clients") ;;
        *) rule+=(--remote-group "${groups[$from]}") ;;
    esac
    said=$(openstack security group rule create -f value -c id "${rule[@]}" "${groups[$on]}" 2>&1) ||
        [[ $said == *"already exists"* ]] || {
        echo "cluster.sh: cannot create the security group rule $name: $said" >&2
        return 1
    }
}

declare -A groups
make_groups() {
    local role name on from protocol ports when
    for role in nodes masters workers; do
        groups[$role]=$(ensure "security group" "$cluster-$role" --description "$role of $cluster")
    done
    while read -r name on from protocol ports when; do
        ! holds "$when" || make_rule "$name" "$on" "$from" "$protocol" "$ports"
    done < <(openings)
}

# NAME ROLE: the port of a server.
make_port() {
    local wanted=(--network "$network" --fixed-ip "subnet=$subnet") group
    for group in "${groups[nodes]}" "${groups[$2]}" "${security_groups[@]}"; do
        wanted+=(--security-group "$group")
    done
    # If all traffic goes through tunnels, no packet on the network has the address of a pod.
    if holds routed; then
        wanted+=(--allowed-address "ip-address=$pod_cidr" --allowed-address "ip-address=$service_cidr")
    fi
    ensure port "$1" "${wanted[@]}"
}

address_of() {
    local fixed address
    fixed=$(openstack port show -f value -c fixed_ips "$1")
    address=$(grep -oE '[0-9]+(\.[0-9]+){3}' <<<"$fixed" | head -n 1)
    [ -n "$address" ] || {
        echo "cluster.sh: port $1 has no IPv4 address; is $subnet an IPv4 subnet?" >&2
        return 1
    }
    echo "$address"
}

# The floating IP of the port. If the port has none, creates one.
make_floating_ip() {
    local address
    address=$(openstack floating ip list --port "$1" -f value -c "Floating IP Address")
    [ -n "$address" ] || address=$(
        openstack floating ip create --port "$1" -f value -c floating_ip_address "$external_network"
    )
    echo "$address"
}

# NAME FLAVOR PORT GROUP PROPERTY…
make_server() {
    local name=$1 flavor=$2 port=$3 group=$4 property
    shift 4
    local server=(--image "$image" --flavor "$flavor" --nic "port-id=$port" --hint "group=$group" --user-data "$user_data")
    [ -z "$key" ] || server+=(--key-name "$key")
    for property in "$@" "podCIDR=$pod_cidr" "serviceCIDR=$service_cidr" "ipip=$ipip" "nodePortRange=$node_ports"; do
        server+=(--property "$property")
    done
    ensure server "$name" "${server[@]}" >/dev/null
    echo "$name: $(address_of "$port")"
}

# The version of the compute API for server groups: the soft policies need 2.15. Without this, the client
# asks in 2.1, unless the operator says otherwise.
version_for_groups() {
    local said=${OS_COMPUTE_API_VERSION:-2.1} least=2.15
    case $policy in
        soft-*) printf '%s\n%s\n' "$said" "$least" | sort -V | tail -n 1 ;;
        *) echo "$said" ;;
    esac
}

# ROLE: the server group.
make_server_group() {
    OS_COMPUTE_API_VERSION=$(version_for_groups) ensure "server group" "$cluster-$1" --policy "$policy" || {
        echo "cluster.sh: no server group with the policy $policy; this client is" \
            "$(openstack --version 2>&1 | tail -n 1); if it or the cloud does not know the policy, install a newer" \
            "python-openstackclient or add --policy anti-affinity; nothing was created" >&2
        return 1
    }
}

create() {
    local number name list="" address="" properties ports=() master_group worker_group port
    # First what a client may not know.
    master_group=$(make_server_group masters)
    worker_group=$(make_server_group workers)
    make_groups
    # Every server property `masters` contains the addresses of all masters, so create their ports first.
    for ((number = 1; number <= masters; number++)); do
        name=$cluster-master-$number
        port=$(make_port "$name" masters)
        address=$(address_of "$port")
        list+=${list:+,}$name=$address
        ports+=("$port")
    done
    properties=(role=master "masters=$list")
    address=""
    if [ -n "$external_network" ]; then
        address=$(make_floating_ip "${ports[0]}")
        # It is on no interface: apiServerSANs puts it into the API server's certificate.
        properties+=("apiServerSANs=$address")
    fi
    for ((number = 1; number <= masters; number++)); do
        name=$cluster-master-$number
        make_server "$name" "$master_flavor" "${ports[number - 1]}" "$master_group" "${properties[@]}"
    done
    for ((number = 1; number <= workers; number++)); do
        name=$cluster-worker-$number
        port=$(make_port "$name" workers)
        make_server "$name" "$flavor" "$port" "$worker_group" role=worker "masters=$list"
    done
    [ -n "$address" ] || address=$(address_of "${ports[0]}")
    echo "API server: https://$address:6443"
}

# Deletes every resource that has the name of a part of the cluster, the servers first.
delete() {
    local kind name port role
    for port in $(named port "$cluster-(master|worker)-[0-9]+"); do
        # shellcheck disable=SC2046 # identifiers have no blanks
        set -- $(openstack floating ip list --port "$port" -f value -c ID)
        [ "$#" -eq 0 ] || openstack floating ip delete "$@"
    done
    for kind in server port; do
        for name in $(named "$kind" "$cluster-(master|worker)-[0-9]+"); do
            if [ "$kind" = server ]; then
                openstack server delete --wait "$name"
            else
                openstack port delete "$name"
            fi
        done
    done
    # Delete a group before the groups that its rules refer to.
    for role in workers masters nodes; do
        for kind in "server group" "security group"; do
            for name in $(named "$kind" "$cluster-$role"); do
                # shellcheck disable=SC2086 # a kind is several words
                openstack $kind delete "$name"
            done
        done
    done
}

# KIND PATTERN: the identifiers of the resources of this kind whose names match the pattern.
named() {
    # shellcheck disable=SC2086 # a kind is several words
    openstack $1 list -f value -c ID -c Name | awk -v pattern="^$2\$" '$2 ~ pattern { print $1 }'
}

# The first address of an IPv4 range with its prefix; fails if it is none.
first_of_range() {
    local byte='(0|[1-9][0-9]{0,2})' prefix number=0 part
    [[ $1 =~ ^$byte\.$byte\.$byte\.$byte/(0|[1-9][0-9]?)$ ]] || return 1
    prefix=${BASH_REMATCH[5]}
    [ "$prefix" -le 32 ] || return 1
    for part in "${BASH_REMATCH[@]:1:4}"; do
        [ "$part" -le 255 ] || return 1
        number=$((number * 256 + part))
    done
    number=$((number >> (32 - prefix) << (32 - prefix)))
    echo "$((number >> 24)).$((number >> 16 & 255)).$((number >> 8 & 255)).$((number & 255))/$prefix"
}

# Fails unless these are two ports, the smaller one first.
is_port_range() {
    local port='([1-9][0-9]{0,4})'
    [[ $1 =~ ^$port-$port$ ]] &&
        [ "${BASH_REMATCH[1]}" -le "${BASH_REMATCH[2]}" ] && [ "${BASH_REMATCH[2]}" -le 65535 ]
}

check() {
    local option size first group
    [[ $cluster =~ ^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$ ]] ||
        refuse "--name $cluster: use at most 30 lower-case letters, digits and dashes; start with a letter and do not end with a dash"
    [ "$command" = create ] || return 0
    for option in user_data image flavor network subnet clients; do
        [ -n "${!option}" ] || refuse "--${option//_/-} is missing"
    done
    [ -r "$user_data" ] || refuse "--user-data $user_data: no such file, or it is not readable"
    size=$(wc -c <"$user_data")
    [ "$size" -le 49149 ] || refuse "--user-data $user_data: $size bytes; Nova accepts at most 49149"
    [[ $masters == [13] ]] || refuse "--masters $masters: use 1 or 3"
    [[ $workers =~ ^(0|[1-9][0-9]{0,3})$ ]] || refuse "--workers $workers: not a number from 0 to 9999"
    [[ $ipip =~ ^(off|cross-subnet|always)$ ]] || refuse "--ipip $ipip: use off, cross-subnet or always"
    [[ $policy =~ ^(soft-)?anti-affinity$ ]] || refuse "--policy $policy: use anti-affinity or soft-anti-affinity"
    is_port_range "$node_ports" ||
        refuse "--node-ports $node_ports: not a range of ports from 1 to 65535 such as 20000-40000"
    for group in "${security_groups[@]}"; do
        [ -n "$group" ] || refuse "--security-group needs a value"
    done
    for option in clients pod_cidr service_cidr; do
        first=$(first_of_range "${!option}") ||
            refuse "--${option//_/-} ${!option}: not an IPv4 range such as 192.0.2.0/24"
        [ "$first" = "${!option}" ] ||
            refuse "--${option//_/-} ${!option}: not the first address of its range; did you mean $first?"
    done
}

command=${1:-}
[ "$#" -eq 0 ] || shift
case $command in
    create | delete) ;;
    -h | --help) usage && exit ;;
    *) refuse "the first argument must be create or delete" ;;
esac
cluster=kubernetes user_data="" image="" flavor="" master_flavor="" network="" subnet="" clients=""
external_network="" key="" masters=1 workers=2 policy=anti-affinity ipip=off
pod_cidr=172.20.0.0/16 service_cidr=10.68.0.0/16 node_ports=20000-40000
security_groups=()
while [ "$#" -gt 0 ]; do
    [ "$1" != --help ] || { usage && exit; }
    [ "$#" -ge 2 ] || refuse "$1 needs a value"
    case $1 in
        --name) cluster=$2 ;;
        --security-group) security_groups+=("$2") ;;
        --user-data | --image | --flavor | --master-flavor | --network | --subnet | --clients | \
            --external-network | --key | --masters | --workers | --policy | --ipip | --pod-cidr | \
            --service-cidr | --node-ports)
            option=${1#--}
            printf -v "${option//-/_}" %s "$2"
            ;;
        *) refuse "$1: no such option" ;;
    esac
    shift 2
done
master_flavor=${master_flavor:-$flavor}
check
type openstack >/dev/null 2>&1 ||
    refuse "there is no openstack client; install it, for example with: apt-get install python3-openstackclient"
"$command"
