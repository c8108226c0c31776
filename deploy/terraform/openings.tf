# The open ports of nodes. A test compares them with the table in src/nodespec/ports.rs.

locals {
  openings = {
    bgp                  = { on = "nodes", from = "nodes", protocol = "tcp", ports = [179, 179], when = "always" }
    tunnel               = { on = "nodes", from = "nodes", protocol = "4", ports = [], when = "tunnelled" }
    api_server           = { on = "masters", from = "nodes", protocol = "tcp", ports = [6443, 6443], when = "always" }
    api_clients          = { on = "masters", from = "clients", protocol = "tcp", ports = [6443, 6443], when = "always" }
    calico_datastore     = { on = "masters", from = "nodes", protocol = "tcp", ports = [2378, 2378], when = "tls" }
    etcd_clients         = { on = "masters", from = "masters", protocol = "tcp", ports = [2379, 2379], when = "tls" }
    etcd_peers           = { on = "masters", from = "masters", protocol = "tcp", ports = [2380, 2380], when = "always" }
    join                 = { on = "masters", from = "nodes", protocol = "tcp", ports = [6444, 6444], when = "always" }
    renew                = { on = "masters", from = "nodes", protocol = "tcp", ports = [6445, 6445], when = "always" }
    kubelet              = { on = "workers", from = "masters", protocol = "tcp", ports = [10250, 10250], when = "always" }
    node_ports_tcp       = { on = "workers", from = "clients", protocol = "tcp", ports = var.node_ports, when = "always" }
    node_ports_udp       = { on = "workers", from = "clients", protocol = "udp", ports = var.node_ports, when = "always" }
    node_ports_nodes_tcp = { on = "workers", from = "nodes", protocol = "tcp", ports = var.node_ports, when = "always" }
    node_ports_nodes_udp = { on = "workers", from = "nodes", protocol = "udp", ports = var.node_ports, when = "always" }
    pods                 = { on = "workers", from = "pods", protocol = null, ports = [], when = "routed" }
    pods_nodes           = { on = "workers", from = "nodes", protocol = null, ports = [], when = "routed" }
  }

  holds = {
    always    = true
    tls       = true
    routed    = var.ipip != "always"
    tunnelled = var.ipip != "off"
  }

  groups = {
    nodes   = openstack_networking_secgroup_v2.nodes.id
    masters = openstack_networking_secgroup_v2.masters.id
    workers = openstack_networking_secgroup_v2.workers.id
  }

  prefixes = {
    pods    = var.pod_cidr
    clients = var.clients
  }
}

resource "openstack_networking_secgroup_v2" "nodes" {
  name        = "${var.name}-nodes"
  description = "Every node of ${var.name}"
}

resource "openstack_networking_secgroup_v2" "masters" {
  name        = "${var.name}-masters"
  description = "Masters of ${var.name}"
}

resource "openstack_networking_secgroup_v2" "workers" {
  name        = "${var.name}-workers"
  description = "Workers of ${var.name}"
}

resource "openstack_networking_secgroup_rule_v2" "openings" {
  for_each = { for name, opening in local.openings : name => opening if local.holds[opening.when] }

  description       = each.key
  direction         = "ingress"
  ethertype         = "IPv4"
  security_group_id = local.groups[each.value.on]
  protocol          = each.value.protocol
  port_range_min    = try(each.value.ports[0], null)
  port_range_max    = try(each.value.ports[1], null)
  remote_group_id   = lookup(local.groups, each.value.from, null)
  remote_ip_prefix  = lookup(local.prefixes, each.value.from, null)
}
