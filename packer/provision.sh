#!/bin/sh
# Runs as root inside the VM that becomes the image.
set -eu

install -m 0755 /tmp/appliance /usr/local/bin/appliance
install -m 0644 /tmp/appliance-install.service /etc/systemd/system/appliance-install.service
rm /tmp/appliance /tmp/appliance-install.service
systemctl enable appliance-install.service

# What would make every VM of the image the same machine, or let anyone in.
cloud-init clean --logs
: >/etc/machine-id
rm -f /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys
rm -f /etc/ssh/sshd_config.d/50-cloud-init.conf
for home in /home/*; do
    passwd --lock "${home#/home/}"
done
sync
