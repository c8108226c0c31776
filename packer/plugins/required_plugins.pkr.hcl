# For Packer 1.7 and later, which keep builders outside of the program. Packer 1.6 cannot read it;
# build.sh shows it only to those that can.

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
