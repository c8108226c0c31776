#!/bin/sh
# Runs confd in Calico's container as calico/node 2.6 does, except for the messages for debugging: those are
# several lines for each change of any node.
exec 2>&1
exec confd -confdir={{ paths.confd_dir }} -interval=5 -watch -log-level=warn \
{%- for endpoint in calico_endpoints | split(pat=",") %}
  -node={{ endpoint }} \
{%- endfor %}
{%- if tls %}
  -client-key={{ key.calico }} \
  -client-cert={{ certificate.calico }} \
  -client-ca-keys={{ certificate.ca }}
{%- else %}
  -client-key= -client-cert= -client-ca-keys=
{%- endif %}
