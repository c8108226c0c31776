output "api_server" {
  description = "Where kubectl reaches the API server: the floating IP, or the first master."
  value       = "https://${coalesce(local.floating_ip, local.master_addresses[0])}:6443"
}

output "masters" {
  description = "The masters' addresses on their network."
  value       = local.master_addresses
}

output "workers" {
  description = "The workers' addresses on their network."
  value       = [for port in openstack_networking_port_v2.workers : port.all_fixed_ips[0]]
}
