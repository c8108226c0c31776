"""Serves a Swift of one disk with its S3 face. Usage: swift-serves.py DIRECTORY BUCKET

The directory is empty, and on a file system with extended attributes. Prints the port on 127.0.0.1. The user
`appliance:backup` has the password of the environment variable KEY, and the bucket. TLS names a file with a certificate
and its key, for HTTPS. Ends with its standard input.
"""

import os
import sys

import eventlet

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402
from eventlet.hubs import trampoline  # noqa: E402
from swift.common import storage_policy, utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.swob import Request  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

HOST = "127.0.0.1"
SERVER = """
[app:main]
use = egg:swift#{kind}
devices = {directory}/devices
mount_check = false
swift_dir = {directory}
disable_fallocate = true
log_name = {kind}
"""
PROXY = """
[DEFAULT]
swift_dir = {directory}
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats s3api tempauth bulk slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
# Pages that a test fills.
max_bucket_listing = 5
[filter:tempauth]
use = egg:swift#tempauth
user_appliance_backup = {key} .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
"""


def serve(app, sock):
    """Serves `app` in the background, without a log."""
    with open(os.devnull, "w") as log:
        eventlet.spawn(wsgi.server, sock, app, log=log, log_output=False)


def loaded(directory, name, text):
    path = os.path.join(directory, f"{name}.conf")
    with open(path, "w") as file:
        file.write(text)
    return loadapp(path, global_conf={"log_requests": "false"})


def main():
    directory, bucket = sys.argv[1:]
    path = os.path.join(directory, "swift.conf")
    with open(path, "w") as file:
        file.write("[swift-hash]\nswift_hash_path_suffix = tests\n[storage-policy:0]\nname = one\ndefault = yes\n")
    utils.SWIFT_CONF_FILE = path
    utils.validate_hash_conf()
    storage_policy.reload_storage_policies()
    os.makedirs(os.path.join(directory, "devices/sda"))
    kinds = ["account", "container", "object"]
    sockets = {kind: eventlet.listen((HOST, 0)) for kind in kinds}
    for kind, sock in sockets.items():
        builder = RingBuilder(1, 1, 0)
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "ip": HOST, "port": sock.getsockname()[1],
                         "device": "sda", "replication_ip": HOST, "replication_port": sock.getsockname()[1]})
        builder.rebalance()
        builder.get_ring().save(os.path.join(directory, f"{kind}.ring.gz"))
    for kind, sock in sockets.items():
        serve(loaded(directory, kind, SERVER.format(kind=kind, directory=directory)), sock)
    sock = eventlet.listen((HOST, 0))
    if "TLS" in os.environ:
        sock = eventlet.wrap_ssl(sock, certfile=os.environ["TLS"], server_side=True)
    proxy = loaded(directory, "proxy", PROXY.format(directory=directory, key=os.environ["KEY"]))
    serve(proxy, sock)
    # What a user does with `openstack container create`.
    request = Request.blank(f"/v1/AUTH_appliance/{bucket}", method="PUT", environ={"swift.authorize_override": True})
    answer = request.get_response(proxy)
    if not answer.is_success:
        sys.exit(f"{answer.status}: {answer.body}")
    print(sock.getsockname()[1], flush=True)
    # Reading would stop the servers, too.
    trampoline(sys.stdin.fileno(), read=True)


main()
