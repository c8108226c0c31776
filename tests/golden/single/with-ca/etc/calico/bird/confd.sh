#!/bin/sh
# Runs confd in Calico's container as calico/node 2.6 does, except for the messages for debugging: those are
# several lines for each change of any node.
exec 2>&1
exec confd -confdir=/etc/calico/confd -interval=5 -watch -log-level=warn \
  -node=https://192.168.1.102:2378 \
  -client-key=/etc/kubernetes/ca/calico/calico-key.pem \
  -client-cert=/etc/kubernetes/ca/calico/calico.pem \
  -client-ca-keys=/etc/kubernetes/ca/ca.pem
