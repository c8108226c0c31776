#!/bin/sh
# Runs as root inside the VM that becomes the image. PACKAGES are installed where they are missing.
set -eu

# It would go on writing what is removed below. That it found something to complain of is no matter.
cloud-init status --wait >/dev/null || true

missing=
for package in $PACKAGES; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
if [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    # shellcheck disable=SC2086 # several packages
    apt-get install -y --no-install-recommends $missing
fi

install -m 0755 /tmp/appliance /usr/local/bin/appliance
rm /tmp/appliance
/usr/local/bin/appliance image prepare --yes
/usr/local/bin/appliance image check
sync
fstrim / || true
