# What an image is made from. Set with -var NAME=VALUE or a file of variables; `make image` passes
# PACKER_ARGS on. Of the functions that match patterns, Packer 1.6 has only regex_replace.

variable "appliance" {
  type        = string
  default     = "../out/appliance"
  description = "The appliance to bake in (make appliance)."

  validation {
    condition     = length(var.appliance) > 0
    error_message = "The appliance has to be a file: make one with `make appliance`."
  }
}

variable "image_name" {
  type        = string
  default     = "appliance"
  description = "The name of the image that is made."

  validation {
    condition     = length(var.image_name) > 0 && regex_replace(var.image_name, "^[A-Za-z0-9][A-Za-z0-9._-]*$", "") == ""
    error_message = "The name of the image may have letters, digits, dots, dashes and underscores."
  }
}

variable "packages" {
  type        = list(string)
  default     = ["apparmor", "conntrack", "ethtool", "ipset", "iptables", "socat"]
  description = "Packages that are installed where they are missing; that needs the distribution's archive. Add docker.io where the bundle has no docker."
}

variable "ssh_username" {
  type        = string
  default     = "debian"
  description = "The user the base image lets in: debian, ubuntu, …"

  validation {
    condition     = length(var.ssh_username) > 0 && regex_replace(var.ssh_username, "^[a-z_][a-z0-9_-]*$", "") == ""
    error_message = "That is no name of a Linux user: debian and ubuntu are those of the distributions' images."
  }
}

variable "base_image" {
  type        = string
  default     = ""
  description = "For QEMU: the distribution's cloud image, a path or URL."
}

variable "base_image_checksum" {
  type        = string
  default     = "none"
  description = "For QEMU: the cloud image's checksum, such as sha256:…; none looks at nothing."

  validation {
    condition     = length(var.base_image_checksum) > 0 && regex_replace(var.base_image_checksum, "^(none|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|file:.+)$", "") == ""
    error_message = "The checksum has to be sha256:…, sha512:…, file:… or none."
  }
}

variable "accelerator" {
  type        = string
  default     = "tcg"
  description = "For QEMU: kvm where guests run with it, else tcg. `make image` finds out which."

  validation {
    condition     = contains(["kvm", "tcg", "none"], var.accelerator)
    error_message = "The accelerator has to be kvm, tcg or none."
  }
}

variable "disk_size" {
  type        = string
  default     = "8G"
  description = "For QEMU: the size of the image's disk; VMs can have bigger ones."

  validation {
    condition     = length(var.disk_size) > 0 && regex_replace(var.disk_size, "^[1-9][0-9]*[MG]$", "") == ""
    error_message = "The size has to be a number of M or G, such as 8G."
  }
}

variable "memory" {
  type        = number
  default     = 2048
  description = "For QEMU: the memory of the VM that makes the image, in MiB."

  validation {
    condition     = var.memory >= 512
    error_message = "The VM needs 512 MiB at least."
  }
}

variable "source_image_name" {
  type        = string
  default     = ""
  description = "For OpenStack: the name of the base image in Glance."
}

variable "flavor" {
  type        = string
  default     = "m1.small"
  description = "For OpenStack: the flavor of the VM that makes the image."

  validation {
    condition     = length(var.flavor) > 0
    error_message = "A flavor has to be named: `openstack flavor list` shows them."
  }
}

variable "networks" {
  type        = list(string)
  default     = []
  description = "For OpenStack: the UUIDs of the networks of that VM."
}

variable "floating_ip_network" {
  type        = string
  default     = ""
  description = "For OpenStack: the network of the floating IP to reach that VM by; none where it is reached without."
}

variable "security_groups" {
  type        = list(string)
  default     = ["default"]
  description = "For OpenStack: the security groups of that VM; one has to let SSH in."
}

variable "volume_size" {
  type        = number
  default     = 0
  description = "For OpenStack: make the image of a volume of that many GB, where flavors have no disk; 0 does not."

  validation {
    condition     = var.volume_size >= 0
    error_message = "The size of the volume cannot be negative."
  }
}
