variable "name" {
  type        = string
  default     = "kubernetes"
  description = "The name of the cluster; the names of all its resources begin with it."

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", var.name))
    error_message = "The name must have at most 30 lower-case letters, digits and dashes, start with a letter and not end with a dash: the names of the nodes contain it."
  }
}

variable "user_data" {
  type        = string
  sensitive   = true
  description = "The user-data of all servers, which `appliance user-data` writes: file(\"user-data\")."

  validation {
    condition     = length(var.user_data) > 0
    error_message = "The user-data is empty, so the servers have no join token. Write it with `appliance user-data --cluster cluster.yaml --file user-data`."
  }

  validation {
    condition     = length(base64encode(var.user_data)) <= 65535
    error_message = "Nova accepts at most 49149 bytes of user-data."
  }
}

variable "masters" {
  type        = number
  default     = 1
  description = "The number of masters: 1 or 3. A cluster with three continues when one is lost."

  validation {
    condition     = contains([1, 3], var.masters)
    error_message = "The number of masters must be 1 or 3: a cluster of two masters stops when either is lost."
  }
}

variable "workers" {
  type        = number
  default     = 2
  description = "The number of workers."

  validation {
    condition     = var.workers >= 0 && floor(var.workers) == var.workers
    error_message = "The number of workers must be a whole number, 0 or more."
  }
}

variable "image" {
  type        = string
  description = "The name of the image in Glance: a golden image, or a cloud image if user_data delivers the appliance."

  validation {
    condition     = length(var.image) > 0
    error_message = "The value of image is empty."
  }
}

variable "master_flavor" {
  type        = string
  description = "The name of the flavor of the masters; at least 2 CPUs, 2 GiB of memory and 20 GB of disk."

  validation {
    condition     = length(var.master_flavor) > 0
    error_message = "The value of master_flavor is empty."
  }
}

variable "worker_flavor" {
  type        = string
  description = "The name of the flavor of the workers."

  validation {
    condition     = length(var.worker_flavor) > 0
    error_message = "The value of worker_flavor is empty."
  }
}

variable "network_id" {
  type        = string
  description = "The identifier of the network of the servers, which exists already."

  validation {
    condition     = length(var.network_id) > 0
    error_message = "The value of network_id is empty."
  }
}

variable "subnet_id" {
  type        = string
  description = "The identifier of the IPv4 subnet of that network."

  validation {
    condition     = length(var.subnet_id) > 0
    error_message = "The value of subnet_id is empty."
  }
}

variable "external_network" {
  type        = string
  default     = ""
  description = "The name of the external network of the floating IP; empty for a cluster without a floating IP."
}

variable "clients" {
  type        = string
  description = "The IPv4 range of the clients that may reach the API server and services of type NodePort."

  validation {
    condition     = try(cidrhost(var.clients, 0) == split("/", var.clients)[0] && cidrnetmask(var.clients) != "", false)
    error_message = "The value of clients must be an IPv4 range that begins with its first address, such as 192.0.2.0/24."
  }
}

variable "key_pair" {
  type        = string
  default     = null
  description = "The key pair for SSH. No rule here opens the SSH port; use security_groups for that."
}

variable "security_groups" {
  type        = list(string)
  default     = []
  description = "The identifiers of more security groups for every server, such as one for SSH."

  validation {
    condition     = alltrue([for group in var.security_groups : length(group) > 0])
    error_message = "An identifier in security_groups is empty; remove it."
  }
}

variable "pod_cidr" {
  type        = string
  default     = "172.20.0.0/16"
  description = "The range of the pods' addresses: the setting podCIDR."

  validation {
    condition     = try(cidrhost(var.pod_cidr, 0) == split("/", var.pod_cidr)[0] && cidrnetmask(var.pod_cidr) != "", false)
    error_message = "The value of pod_cidr must be an IPv4 range that begins with its first address, such as 172.20.0.0/16."
  }
}

variable "service_cidr" {
  type        = string
  default     = "10.68.0.0/16"
  description = "The range of the services' addresses: the setting serviceCIDR."

  validation {
    condition     = try(cidrhost(var.service_cidr, 0) == split("/", var.service_cidr)[0] && cidrnetmask(var.service_cidr) != "", false)
    error_message = "The value of service_cidr must be an IPv4 range that begins with its first address, such as 10.68.0.0/16."
  }
}

variable "ipip" {
  type        = string
  default     = "off"
  description = "When Calico uses IP-in-IP tunnels: the setting ipip."

  validation {
    condition     = contains(["off", "cross-subnet", "always"], var.ipip)
    error_message = "The value of ipip must be off, cross-subnet or always."
  }
}

variable "node_ports" {
  type        = list(number)
  default     = [20000, 40000]
  description = "The first and the last port of services of type NodePort: the setting nodePortRange."

  validation {
    condition     = try(length(var.node_ports) == 2 && alltrue([for port in var.node_ports : floor(port) == port && port >= 1 && port <= 65535]) && var.node_ports[0] <= var.node_ports[1], false)
    error_message = "The value of node_ports must be two ports from 1 to 65535, the smaller one first, such as [20000, 40000]."
  }
}

variable "server_group_policy" {
  type        = string
  default     = "anti-affinity"
  description = "With anti-affinity, two masters, or two workers, never run on the same hypervisor. With soft-anti-affinity, they do only if there are too few hypervisors."

  validation {
    condition     = contains(["anti-affinity", "soft-anti-affinity"], var.server_group_policy)
    error_message = "The value of server_group_policy must be anti-affinity or soft-anti-affinity."
  }
}
