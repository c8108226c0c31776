# For Packer 1.7 and newer, which have the builders in plugins. Packer 1.6 cannot read this file, so
# build.sh adds it only for newer versions.

packer {
  required_plugins {
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.0"
    }
    openstack = {
      source  = "github.com/hashicorp/openstack"
      version = ">= 1.0.0"
    }
  }
}
