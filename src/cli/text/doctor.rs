//! Examples of `doctor` and `support-bundle`.

pub const DOCTOR: &str = "\
Examples:
  appliance doctor
  appliance doctor -o json | jq -r '.found[] | .name + \": \" + .command'
  # the disk of a server that does not boot, mounted at /mnt
  appliance doctor --root /mnt

Exit codes: 0 no cause was found; 3 causes were found.

More: appliance help faults";

pub const SUPPORT_BUNDLE: &str = "\
Examples:
  appliance support-bundle
  appliance support-bundle --file /root/node.tar.gz
  # nothing is written on this node, for example because its disk is full
  appliance support-bundle --file /dev/stdout | ssh OTHER 'cat >node.tar.gz'
  # the disk of a server that does not boot, mounted at /mnt
  appliance support-bundle --root /mnt --file node.tar.gz

INDEX.txt in the archive lists what is inside, and what was left out.

More: appliance help troubleshooting";
