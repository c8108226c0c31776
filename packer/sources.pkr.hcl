# The two ways to make an image: in a QEMU VM on this machine, or in a server of an OpenStack cloud.

source "qemu" "appliance" {
  disk_image       = true
  disk_size        = var.disk_size
  iso_url          = var.base_image
  iso_checksum     = var.base_image_checksum
  accelerator      = var.accelerator
  headless         = true
  memory           = var.memory
  format           = "qcow2"
  disk_discard     = "unmap"
  output_directory = "../out/packer/${var.image_name}"
  vm_name          = "${var.image_name}.qcow2"
  # A cloud image allows a login only after cloud-init has set it up.
  cd_files         = ["seed/meta-data", "seed/user-data"]
  cd_label         = "cidata"
  ssh_username     = var.ssh_username
  ssh_password     = "packer"
  ssh_timeout      = "20m"
  shutdown_command = "sudo systemctl poweroff"
  shutdown_timeout = "10m"
}

source "openstack" "appliance" {
  image_name              = var.image_name
  source_image_name       = var.source_image_name
  flavor                  = var.flavor
  networks                = var.networks
  floating_ip_network     = var.floating_ip_network
  security_groups         = var.security_groups
  use_blockstorage_volume = var.volume_size > 0
  volume_size             = var.volume_size
  ssh_username            = var.ssh_username
  ssh_timeout             = "20m"
  metadata = {
    os_type = "linux"
  }
}
