"""Lets Nova itself make the metadata of servers, without a cloud: DIRECTORY.

Standard input: a JSON list of servers on one line; what they are stands in tests/integration/nova/servers.rs.
Below DIRECTORY, N is then the tree of the config drive of server N, and N.img a drive. Standard output: one line
of JSON for each server, what Nova's model says and, if it is served, the port of its metadata service on
127.0.0.1. Serves until standard input ends.
"""

import http.server
import json
import logging
import os
import socketserver
import sys
import tempfile
import threading
import warnings
import wsgiref.simple_server
from types import SimpleNamespace

warnings.simplefilter("ignore")
# Nothing is asked of a cloud, and eventlet would change how threads wait.
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"

import nova.conf
from nova import objects
from nova.api.metadata import base, handler
from nova.compute import api as compute
from nova.network import model
from nova.virt import configdrive
from nova.virt.ironic import driver as ironic
from oslo_log import log
from oslo_serialization import base64

logging.disable(logging.CRITICAL)
CONF = nova.conf.CONF


def subnet(said, version):
    if not said:
        return []
    given = {"dhcp_server": said["dhcp"]} if said.get("dhcp") else {}
    if said.get("mode"):
        given["ipv6_address_mode"] = said["mode"]
    gateway = said.get("gateway")
    made = model.Subnet(
        cidr=said["cidr"],
        dns=[model.IP(address=address, type="dns") for address in said.get("dns", [])],
        gateway=model.IP(address=gateway, type="gateway") if gateway else None,
        ips=[model.FixedIP(address=said["address"], version=version)],
        routes=[
            model.Route(cidr=cidr, gateway=model.IP(address=gateway))
            for cidr in said.get("routes", [])
        ],
        version=version,
        **given,
    )
    return [made]


def vif(number, port):
    network = model.Network(
        id=port["network"],
        bridge="br-int",
        label="net",
        subnets=subnet(port.get("v4"), 4) + subnet(port.get("v6"), 6),
        mtu=port["mtu"],
    )
    return model.VIF(
        id=port["id"],
        address=port["mac"],
        network=network,
        type=port["kind"],
        devname="tap" + port["id"][-11:],
        details={"vlan": "42"} if port["kind"] == "hw_veb" else {},
        profile={"trusted": "true"} if port["kind"] == "hw_veb" else {},
        active=True,
    )


def devices(ports):
    nics = [
        objects.NetworkInterfaceMetadata(
            mac=port["mac"],
            bus=objects.PCIDeviceBus(address=f"0000:00:0{number + 3}.0"),
            tags=["cluster"],
            vlan=42,
            vf_trusted=True,
        )
        for number, port in enumerate(ports)
    ]
    return objects.InstanceDeviceMetadata(devices=nics)


def instance(said):
    ports = model.NetworkInfo([vif(number, port) for number, port in enumerate(said["ports"])])
    keys = [objects.KeyPair(name="mine", type="ssh", public_key="ssh-rsa AAAA")] if said["key"] else []
    made = objects.Instance(
        uuid=said["uuid"],
        project_id="f0e1d2c3b4a5968778695a4b3c2d1e0f",
        user_id="user",
        display_name=said["name"],
        launch_index=said["index"],
        availability_zone="nova",
        user_data=base64.encode_as_text(said["user_data"]) if said["user_data"] is not None else None,
        key_name="mine" if keys else None,
        key_data="ssh-rsa AAAA" if keys else None,
        keypairs=objects.KeyPairList(objects=keys),
        metadata=said["meta"],
        system_metadata={},
        image_ref="image",
        reservation_id="r-1",
        info_cache=objects.InstanceInfoCache(network_info=ports),
        device_metadata=devices(said["ports"]) if said["tags"] else None,
        numa_topology=None,
        flavor=objects.Flavor(name="m1.small"),
        ec2_ids=objects.EC2Ids(instance_id="i-1", ami_id="ami-1", kernel_id=None, ramdisk_id=None),
    )
    compute.API._populate_instance_names(None, made, said["count"], said["index"])
    return made


def of_ironic(said, ports):
    """The network of a bare-metal server whose first port is a group of two NICs."""
    members = [
        SimpleNamespace(
            id=f"member{number}", port_group_id="group", address=mac, internal_info={}, extra={}
        )
        for number, mac in enumerate(said["bond"])
    ]
    group = SimpleNamespace(
        id="group",
        mode="802.3ad",
        address=said["bond"][0],
        properties={"miimon": "100"},
        internal_info={"tenant_vif_port_id": said["ports"][0]["id"]},
        extra={},
    )
    connection = SimpleNamespace(
        ports=lambda **_: members, port_groups=lambda **_: [group]
    )
    driver = SimpleNamespace(ironic_connection=connection)
    return ironic.IronicDriver._get_network_metadata(driver, SimpleNamespace(id="node"), ports)


def metadata(said, made):
    CONF.set_override("dhcp_domain", said["domain"], "api")
    CONF.set_override("vendordata_jsonfile_path", None, "api")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as static:
        json.dump(said["vendor"], static)
        static.flush()
        CONF.set_override("vendordata_jsonfile_path", static.name, "api")
        network = of_ironic(said, made.info_cache.network_info) if said["bond"] else None
        return base.InstanceMetadata(made, network_metadata=network)


def vendor_service(servers):
    """The cloud's own service, which Nova asks for vendor-data: the port."""
    answers = {said["uuid"]: said["dynamic"] for said in servers}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = answers[body["instance-id"]].get(self.path[1:], {})
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


class Threading(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


def serve(found, domain):
    """Nova's own handler for one server: the port. Without a server it knows none."""
    application = handler.MetadataRequestHandler()

    def by_address(_address):
        CONF.set_override("dhcp_domain", domain, "api")
        return found

    # All servers have the address 127.0.0.1 here.
    application.get_metadata_by_remote_address = by_address
    server = wsgiref.simple_server.make_server(
        "127.0.0.1", 0, application, server_class=Threading, handler_class=Quiet
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def make(number, said, directory):
    made = instance(said)
    found = metadata(said, made)
    drive = configdrive.ConfigDriveBuilder(instance_md=found)
    tree = os.path.join(directory, str(number))
    os.makedirs(tree)
    drive._write_md_files(tree)
    if said["drive"]:
        CONF.set_override("config_drive_format", "iso9660")
        drive.make_drive(tree + ".img")
    port = serve(found, said["domain"]) if said["served"] else None
    return {
        "name": made.display_name,
        "hostname": found._get_hostname(),
        "network": found.network_metadata,
        "port": port,
    }


def main(directory):
    servers = json.loads(sys.stdin.readline())
    # The handler asks whether it is to log requests.
    log.register_options(CONF)
    CONF([], project="nova", default_config_files=[])
    objects.register_all()
    base.security_group_api.get_instance_security_groups = lambda *_: [{"name": "default"}]
    base._format_instance_mapping = lambda _: {"ami": "sda1", "root": "/dev/sda1"}
    port = vendor_service(servers)
    targets = [f"{name}@http://127.0.0.1:{port}/{name}" for name in ("cloud-init", "inventory")]
    CONF.set_override("vendordata_providers", ["StaticJSON", "DynamicJSON"], "api")
    CONF.set_override("vendordata_dynamic_targets", targets, "api")
    for number, said in enumerate(servers):
        print(json.dumps(make(number, said, directory)), flush=True)
    print(json.dumps({"port": serve(None, "")}), flush=True)
    sys.stdin.read()


main(sys.argv[1])
