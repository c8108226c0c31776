"""Lets cloud-init itself read user-data, vendor-data and config drives, and merge cloud-configs.

Standard input: an object with a list for each kind. Standard output: cloud-init's version, and for
each kind a list of results; null where cloud-init fails.

  user_data    bytes in base64          the merged cloud-config
  vendor_data  a value of JSON          the merged cloud-config
  drives       a directory              what cloud-init reads: name, host name, user-data, network
"""

import base64
import json
import logging
import sys

from cloudinit import handlers, helpers, sources, user_data, util, version
from cloudinit.handlers.cloud_config import CloudConfigPartHandler
from cloudinit.sources.helpers import openstack

logging.disable(logging.CRITICAL)
# Nothing is asked for: addresses in the input are not followed.
user_data.UserDataProcessor._do_include = lambda *_: None


def merged(data):
    paths = helpers.Paths({})
    message = user_data.UserDataProcessor(paths).process(data)
    handler = CloudConfigPartHandler(paths)
    types = handler.list_types()

    def take(_data, filename, payload, headers):
        kind = headers["Content-Type"]
        if kind in types:
            handler.handle_part(None, kind, filename, payload, None, headers)

    handler.handle_part(None, handlers.CONTENT_START, None, None, None, None)
    handlers.walk(message, take, None)
    return handler.cloud_buf or {}


def vendor(value):
    data = sources.convert_vendordata(value)
    return merged(data) if data else {}


def drive(directory):
    found = openstack.ConfigDriveReader(directory).read_v2()
    data = found.get("userdata")
    network = found.get("networkdata")
    links = (network or {}).get("links", [])
    names = {link["ethernet_mac_address"]: f"eth{number}" for number, link in enumerate(links)}
    return {
        "name": found["metadata"].get("name"),
        "hostname": found["metadata"].get("hostname"),
        "network": openstack.convert_net_json(network, known_macs=names) if network else None,
        "user_data": util.decode_binary(data) if data else None,
    }


def tried(function, value):
    try:
        return function(value)
    except Exception:
        return None


asked = json.load(sys.stdin)
result = {
    "version": version.version_string(),
    "user_data": [tried(merged, base64.b64decode(data)) for data in asked["user_data"]],
    "vendor_data": [tried(vendor, value) for value in asked["vendor_data"]],
    "drives": [tried(drive, directory) for directory in asked["drives"]],
}
print(json.dumps(result, default=str))
