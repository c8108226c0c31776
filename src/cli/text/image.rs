//! What the help of golden images ends with.

pub const IMAGE: &str = "\
Examples:
  appliance image build --base debian-12.qcow2 -o golden.qcow2
  appliance image prepare --root /mnt
  appliance image check --root /mnt

More: appliance help images";

pub const BUILD: &str = "\
Examples:
  appliance image build --base debian-12.qcow2 -o golden.qcow2
  appliance image build --base ubuntu.img -o golden.qcow2 --compress
  sha256sum --check golden.qcow2.sha256

The base must have cloud-init. For nodes that run pods it must also have
apparmor, conntrack, ethtool, ipset, iptables and socat, and docker unless the
bundle contains it.

More: appliance help images";

pub const PREPARE: &str = "\
Examples:
  # in a VM that is there only to become an image
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
