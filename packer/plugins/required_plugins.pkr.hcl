# For Packer 1.7 and later, which keep builders outside of the program: copy this file beside the
# others and run `packer init .`. Packer 1.6 cannot read it.

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
