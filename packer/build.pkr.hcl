# Puts the appliance into the image. A VM of this image finds its role in the metadata and becomes a node.

build {
  sources = ["source.qemu.appliance", "source.openstack.appliance"]

  provisioner "file" {
    source      = var.appliance
    destination = "/tmp/appliance"
  }

  provisioner "shell" {
    environment_vars = ["PACKAGES=${join(" ", var.packages)}"]
    execute_command  = "sudo env {{ .Vars }} sh -eu '{{ .Path }}'"
    script           = "provision.sh"
  }

  post-processor "checksum" {
    only           = ["qemu.appliance"]
    checksum_types = ["sha256"]
    output         = "../out/packer/${var.image_name}.qcow2.{{ .ChecksumType }}"
  }

  post-processor "manifest" {
    output     = "../out/packer/${var.image_name}.manifest.json"
    strip_path = true
  }
}
