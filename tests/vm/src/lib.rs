//! Boots the appliance in QEMU virtual machines made from Debian packages.
