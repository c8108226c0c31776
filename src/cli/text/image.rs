//! The last part of the help of commands for golden images.

pub const IMAGE: &str = "\
Examples:
  appliance image build --base debian-12.qcow2 --file golden.qcow2
  appliance image prepare --root /mnt
  appliance image check --root /mnt

More: appliance help images";

pub const BUILD: &str = "\
Examples:
  appliance image build --base debian-12.qcow2 --file golden.qcow2
  appliance image build --base ubuntu.img --file golden.qcow2 --compress
  sha256sum --check golden.qcow2.sha256

The base must have cloud-init. For nodes that run pods it must also have
apparmor, conntrack, ethtool, ipset, iptables and socat, and docker unless the
bundle contains it.

More: appliance help images";

pub const PREPARE: &str = "\
Examples:
  # in a VM whose only purpose is to become an image
  appliance image prepare --yes && poweroff
  # an image that is mounted at /mnt
  appliance image prepare --root /mnt

More: appliance help images";

pub const CHECK: &str = "\
Examples:
  appliance image prepare --root /mnt
  appliance image check --root /mnt
  appliance image check --root /mnt -o json |
    jq '.checks[] | select(.result == \"failed\")'

More: appliance help images";
