variable "name" {
  type        = string
  default     = "kubernetes"
  description = "What the cluster is called; all that is made has names that begin so."

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$", var.name))
    error_message = "The name becomes part of the nodes' names: at most 30 lower-case letters, digits and dashes, a letter first, no dash last."
  }
}

variable "user_data" {
  type        = string
  sensitive   = true
  description = "What all servers boot with, as `appliance user-data` writes it: file(\"user-data\")."

  validation {
    condition     = length(var.user_data) > 0
    error_message = "Without user-data no server has a join token: make it with `appliance user-data`."
  }
}

variable "masters" {
  type        = number
  default     = 1
  description = "How many masters there are: one, or three, which bear the loss of one."

  validation {
    condition     = contains([1, 3], var.masters)
    error_message = "Say 1 or 3: two masters are worse than one."
  }
}

variable "workers" {
  type        = number
  default     = 2
  description = "How many workers there are."

  validation {
    condition     = var.workers >= 0 && floor(var.workers) == var.workers
    error_message = "The number of workers is 0 or more."
  }
}

variable "image" {
  type        = string
  description = "The name of the image in Glance: a golden image, or a cloud image where user_data brings the appliance."
}

variable "master_flavor" {
  type        = string
  description = "The name of the masters' flavor: 2 CPUs, 2 GiB and 20 GB of disk or more."
}

variable "worker_flavor" {
  type        = string
  description = "The name of the workers' flavor."
}

variable "network_id" {
  type        = string
  description = "The network of the servers, which exists already."
}

variable "subnet_id" {
  type        = string
  description = "The IPv4 subnet of that network."
}

variable "external_network" {
  type        = string
  default     = ""
  description = "The name of the network that floating IPs come from; empty for a cluster without one."
}

variable "clients" {
  type        = string
  description = "From where people reach the API server and services of type NodePort: an IPv4 range."

  validation {
    condition     = can(cidrnetmask(var.clients))
    error_message = "This is an IPv4 range such as 192.0.2.0/24."
  }
}

variable "key_pair" {
  type        = string
  default     = null
  description = "The key pair for SSH; nothing here opens its port, see security_groups."
}

variable "security_groups" {
  type        = list(string)
  default     = []
  description = "Identifiers of further security groups of every server, such as one for SSH."
}

variable "pod_cidr" {
  type        = string
  default     = "172.20.0.0/16"
  description = "The addresses of pods: the setting podCIDR."
}

variable "service_cidr" {
  type        = string
  default     = "10.68.0.0/16"
  description = "The addresses of services: the setting serviceCIDR."
}

variable "ipip" {
  type        = string
  default     = "off"
  description = "When Calico tunnels: the setting ipip."

  validation {
    condition     = contains(["off", "cross-subnet", "always"], var.ipip)
    error_message = "The setting ipip is off, cross-subnet or always."
  }
}

variable "node_ports" {
  type        = list(number)
  default     = [20000, 40000]
  description = "The first and the last port of services of type NodePort: the setting nodePortRange."
}

variable "server_group_policy" {
  type        = string
  default     = "anti-affinity"
  description = "anti-affinity: never two masters, nor two workers, on one hypervisor; soft-anti-affinity: where it can be helped."

  validation {
    condition     = contains(["anti-affinity", "soft-anti-affinity"], var.server_group_policy)
    error_message = "The policy is anti-affinity or soft-anti-affinity."
  }
}
