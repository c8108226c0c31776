# Bakes the appliance in: a VM of the image finds its role in the metadata and comes up by itself.

build {
  sources = ["source.qemu.appliance", "source.openstack.appliance"]

  provisioner "file" {
    source      = var.appliance
    destination = "/tmp/appliance"
  }

  provisioner "file" {
    source      = "../cloud-init/appliance-install.service"
    destination = "/tmp/appliance-install.service"
  }

  provisioner "shell" {
    execute_command = "sudo sh -eu '{{ .Path }}'"
    script          = "provision.sh"
  }

  post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "../out/packer/{{ .BuildName }}.{{ .ChecksumType }}"
  }
}
