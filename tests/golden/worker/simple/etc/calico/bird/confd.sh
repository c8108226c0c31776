#!/bin/sh
# Runs confd in Calico's container as calico/node 2.6 does, except for the messages for debugging: those are
# several lines for each change of any node.
exec 2>&1
exec confd -confdir=/etc/calico/confd -interval=5 -watch -log-level=warn \
  -node=http://192.168.1.102:2379 \
  -client-key= -client-cert= -client-ca-keys=
