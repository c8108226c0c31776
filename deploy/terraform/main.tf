# A cluster of masters and workers. All boot with the same user-data; the properties of each server set its role.

locals {
  # If all traffic goes through tunnels, no packet on the network has the address of a pod.
  pairs = var.ipip == "always" ? [] : [var.pod_cidr, var.service_cidr]

  master_names = [for index in range(var.masters) : "${var.name}-master-${index + 1}"]
  worker_names = [for index in range(var.workers) : "${var.name}-worker-${index + 1}"]

  master_groups = concat([local.groups["nodes"], local.groups["masters"]], var.security_groups)
  worker_groups = concat([local.groups["nodes"], local.groups["workers"]], var.security_groups)

  master_addresses = [for port in openstack_networking_port_v2.masters : port.all_fixed_ips[0]]
  floating_ip      = one(openstack_networking_floatingip_v2.api[*].address)

  # These settings are server properties, which override user-data. The first master in the list
  # creates the cluster.
  settings = {
    masters       = join(",", [for index, name in local.master_names : "${name}=${local.master_addresses[index]}"])
    podCIDR       = var.pod_cidr
    serviceCIDR   = var.service_cidr
    ipip          = var.ipip
    nodePortRange = join("-", var.node_ports)
  }

  # The floating IP is on no interface: apiServerSANs puts it into the API server's certificate.
  sans = local.floating_ip == null ? {} : { apiServerSANs = local.floating_ip }
}

resource "openstack_networking_port_v2" "masters" {
  count = var.masters

  name               = local.master_names[count.index]
  network_id         = var.network_id
  admin_state_up     = true
  security_group_ids = local.master_groups

  fixed_ip {
    subnet_id = var.subnet_id
  }

  dynamic "allowed_address_pairs" {
    for_each = local.pairs

    content {
      ip_address = allowed_address_pairs.value
    }
  }
}

resource "openstack_networking_port_v2" "workers" {
  count = var.workers

  name               = local.worker_names[count.index]
  network_id         = var.network_id
  admin_state_up     = true
  security_group_ids = local.worker_groups

  fixed_ip {
    subnet_id = var.subnet_id
  }

  dynamic "allowed_address_pairs" {
    for_each = local.pairs

    content {
      ip_address = allowed_address_pairs.value
    }
  }
}

resource "openstack_compute_servergroup_v2" "masters" {
  name     = "${var.name}-masters"
  policies = [var.server_group_policy]
}

resource "openstack_compute_servergroup_v2" "workers" {
  name     = "${var.name}-workers"
  policies = [var.server_group_policy]
}

resource "openstack_networking_floatingip_v2" "api" {
  count = var.external_network == "" ? 0 : 1

  pool        = var.external_network
  description = "API server of ${var.name}"
}

resource "openstack_networking_floatingip_associate_v2" "api" {
  count = var.external_network == "" ? 0 : 1

  floating_ip = openstack_networking_floatingip_v2.api[0].address
  port_id     = openstack_networking_port_v2.masters[0].id
}

resource "openstack_compute_instance_v2" "masters" {
  count = var.masters

  name        = local.master_names[count.index]
  image_name  = var.image
  flavor_name = var.master_flavor
  key_pair    = var.key_pair
  user_data   = var.user_data
  metadata    = merge(local.settings, local.sans, { role = "master" })

  network {
    port = openstack_networking_port_v2.masters[count.index].id
  }

  scheduler_hints {
    group = openstack_compute_servergroup_v2.masters.id
  }

  # New user-data is for new servers only: the existing servers have read theirs already.
  lifecycle {
    ignore_changes = [user_data]
  }
}

resource "openstack_compute_instance_v2" "workers" {
  count = var.workers

  name        = local.worker_names[count.index]
  image_name  = var.image
  flavor_name = var.worker_flavor
  key_pair    = var.key_pair
  user_data   = var.user_data
  metadata    = merge(local.settings, { role = "worker" })

  network {
    port = openstack_networking_port_v2.workers[count.index].id
  }

  scheduler_hints {
    group = openstack_compute_servergroup_v2.workers.id
  }

  lifecycle {
    ignore_changes = [user_data]
  }
}
