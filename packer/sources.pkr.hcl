# The two places an image is made: a QEMU VM on this machine, a server in an OpenStack cloud.

source "qemu" "appliance" {
  disk_image       = true
  iso_url          = var.base_image
  iso_checksum     = var.base_image_checksum
  accelerator      = var.accelerator
  headless         = true
  memory           = 2048
  format           = "qcow2"
  output_directory = "../out/packer"
  vm_name          = "${var.image_name}.qcow2"
  # The cloud image lets a user in only with cloud-init's help.
  cd_files         = ["seed/meta-data", "seed/user-data"]
  cd_label         = "cidata"
  ssh_username     = var.ssh_username
  ssh_password     = "packer"
  ssh_timeout      = "20m"
  shutdown_command = "sudo systemctl poweroff"
}

source "openstack" "appliance" {
  image_name        = var.image_name
  source_image_name = var.source_image_name
  flavor            = var.flavor
  networks          = var.networks
  ssh_username      = var.ssh_username
}
