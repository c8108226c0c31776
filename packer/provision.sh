#!/bin/sh
# Runs as root inside the VM that becomes the image. Installs the missing packages of PACKAGES.
set -eu

# Wait for cloud-init: otherwise it would write files again that are removed below. Ignore its warnings.
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
