# The variables of an image. Set them with -var NAME=VALUE or in a file of variables. `make image` passes
# PACKER_ARGS to Packer. To match patterns, Packer 1.6 has only the function regex_replace.

variable "appliance" {
  type        = string
  default     = "../out/appliance"
  description = "The appliance to put into the image, made by `make appliance`."

  validation {
    condition     = length(var.appliance) > 0
    error_message = "The appliance is a file: make one with `make appliance`."
  }
}

variable "image_name" {
  type        = string
  default     = "appliance"
  description = "The name of the new image."

  validation {
    condition     = length(var.image_name) > 0 && regex_replace(var.image_name, "^[A-Za-z0-9][A-Za-z0-9._-]*$", "") == ""
    error_message = "The name of the image consists of letters, digits, dots, dashes and underscores."
  }
}

variable "packages" {
  type        = list(string)
  default     = ["apparmor", "conntrack", "ethtool", "ipset", "iptables", "socat"]
  description = "Packages to install if they are missing, from the distribution's archive. Add docker.io if the bundle has no docker."
}

variable "ssh_username" {
  type        = string
  default     = "debian"
  description = "The user for the login to the base image: debian, ubuntu, …"

  validation {
    condition     = length(var.ssh_username) > 0 && regex_replace(var.ssh_username, "^[a-z_][a-z0-9_-]*$", "") == ""
    error_message = "This is not the name of a Linux user, such as debian or ubuntu in the images of these distributions."
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
  description = "For QEMU: the checksum of the cloud image, such as sha256:…; with none, the image is not verified."

  validation {
    condition     = length(var.base_image_checksum) > 0 && regex_replace(var.base_image_checksum, "^(none|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|file:.+)$", "") == ""
    error_message = "The checksum is sha256:…, sha512:…, file:… or none."
  }
}

variable "accelerator" {
  type        = string
  default     = "tcg"
  description = "For QEMU: kvm if guests run with it, otherwise tcg. `make image` detects which."

  validation {
    condition     = contains(["kvm", "tcg", "none"], var.accelerator)
    error_message = "The accelerator is kvm, tcg or none."
  }
}

variable "disk_size" {
  type        = string
  default     = "8G"
  description = "For QEMU: the size of the image's disk. VMs can have larger disks."

  validation {
    condition     = length(var.disk_size) > 0 && regex_replace(var.disk_size, "^[1-9][0-9]*[MG]$", "") == ""
    error_message = "The size is a number with M or G, such as 8G."
  }
}

variable "memory" {
  type        = number
  default     = 2048
  description = "For QEMU: the memory of the VM that makes the image, in MiB."

  validation {
    condition     = var.memory >= 512
    error_message = "The VM needs at least 512 MiB."
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
    error_message = "Give a flavor: `openstack flavor list` shows them."
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
  description = "For OpenStack: the network of a floating IP for that VM; empty if you reach the VM without one."
}

variable "security_groups" {
  type        = list(string)
  default     = ["default"]
  description = "For OpenStack: the security groups of that VM; one of them must allow SSH."
}

variable "volume_size" {
  type        = number
  default     = 0
  description = "For OpenStack: the size in GB of a volume to make the image from, for flavors without a disk; 0 uses no volume."

  validation {
    condition     = var.volume_size >= 0
    error_message = "The size of the volume is 0 or more."
  }
}
