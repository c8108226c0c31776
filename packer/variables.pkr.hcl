# What an image is made from. Set with -var NAME=VALUE or a file of variables.

variable "appliance" {
  type        = string
  default     = "../out/appliance"
  description = "The appliance to bake in (make appliance)."
}

variable "image_name" {
  type        = string
  default     = "appliance"
  description = "The name of the image that is made."
}

variable "ssh_username" {
  type        = string
  default     = "debian"
  description = "The user the base image lets in: debian, ubuntu, …"
}

variable "base_image" {
  type        = string
  default     = ""
  description = "For QEMU: the distribution's cloud image, a path or URL."
}

variable "base_image_checksum" {
  type        = string
  default     = "none"
  description = "For QEMU: the cloud image's checksum, such as sha256:…"
}

variable "accelerator" {
  type        = string
  default     = "tcg"
  description = "For QEMU: kvm where guests run with it, else tcg."
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
}

variable "networks" {
  type        = list(string)
  default     = []
  description = "For OpenStack: the UUIDs of the networks of that VM."
}
