output "api_server" {
  description = "The URL of the API server for kubectl, at the floating IP or the first master."
  value       = "https://${coalesce(local.floating_ip, local.master_addresses[0])}:6443"
}

output "masters" {
  description = "The addresses of the masters on the network."
  value       = local.master_addresses
}

output "workers" {
  description = "The addresses of the workers on the network."
  value       = [for port in openstack_networking_port_v2.workers : port.all_fixed_ips[0]]
}
