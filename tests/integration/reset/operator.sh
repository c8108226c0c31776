#!/bin/sh
# What an operator has on a machine before it becomes a node: a firewall of both kinds, a set of addresses, a route, a
# mount, a name in /etc/hosts, a service, and a container that a port leads to.
set -e
cloud-init status --wait >/dev/null || true
mkdir -p /run/volume /srv/mine /mnt/mine
mount -o ro LABEL=APPLIANCE /run/volume
cp /run/volume/appliance /root/appliance
umount /run/volume
rmdir /run/volume

# The same container after a reboot of docker, with its data in a volume.
systemctl start docker
tar -C / -c root/appliance | docker import - mine:1 >/dev/null
docker network create mine >/dev/null
docker run -d --name mine --network mine --restart=always -v mine:/data -e NODE_NAME=mine -p 8089:8089 mine:1 \
    /root/appliance check serve --port 8089 >/dev/null

for iptables in iptables-nft iptables-legacy; do
    $iptables -N mine
    $iptables -A mine -p tcp --dport 22 -j ACCEPT
    $iptables -A mine -p tcp --dport 23 -j DROP
    $iptables -I INPUT -j mine
done
iptables -t nat -A POSTROUTING -s 10.99.0.0/16 -j MASQUERADE
iptables -t raw -A PREROUTING -s 10.98.0.0/16 -j DROP
ipset create mine hash:net
ipset add mine 10.97.0.0/16
iptables -A mine -m set --match-set mine src -j DROP
ip route add blackhole 10.66.0.0/16
ip rule add from 10.96.0.0/16 lookup 96
ip route add blackhole default table 96

echo data >/srv/mine/data
mount --bind /srv/mine /mnt/mine
echo '10.0.0.9 mine' >>/etc/hosts
echo 'vm.swappiness = 7' >/etc/sysctl.d/99-mine.conf
sysctl --quiet --load /etc/sysctl.d/99-mine.conf || true
cat >/etc/systemd/system/mine.service <<'UNIT'
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --now --quiet mine.service
sync
