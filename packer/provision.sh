#!/bin/sh
# Runs as root inside the VM that becomes the image. Installs those of PACKAGES that are missing.
set -eu

# Wait for cloud-init: it would write again what is removed below. Its warnings do not matter here.
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
