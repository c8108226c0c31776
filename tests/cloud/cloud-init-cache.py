"""Lets cloud-init itself read a config drive and keep what it found: DRIVE ROOT.

Below ROOT there is then what a VM has below / after its boot.
"""

import os
import shutil
import sys

from cloudinit import distros, helpers, util
from cloudinit.sources.DataSourceConfigDrive import DataSourceConfigDrive

drive, root = sys.argv[1:]
run_dir = os.path.join(root, "run/cloud-init")
cloud_dir = os.path.join(root, "var/lib/cloud")
os.makedirs(run_dir)
os.makedirs(os.path.join(cloud_dir, "data"))
shutil.copytree(drive, os.path.join(cloud_dir, "seed/config_drive"))

paths = helpers.Paths({"cloud_dir": cloud_dir, "run_dir": run_dir})
distro = distros.fetch("debian")("debian", {}, paths)
source = DataSourceConfigDrive({}, distro, paths)
if not source.get_data():
    sys.exit("cloud-init finds no config drive in " + drive)

instance_id = source.get_instance_id()
instance = os.path.join(cloud_dir, "instances", instance_id)
os.makedirs(instance)
os.symlink(instance, os.path.join(cloud_dir, "instance"))
for path, content in {
    os.path.join(cloud_dir, "data/instance-id"): instance_id + "\n",
    os.path.join(instance, "user-data.txt"): source.get_userdata_raw(),
    os.path.join(instance, "vendor-data.txt"): source.get_vendordata_raw(),
    os.path.join(instance, "vendor-data2.txt"): source.get_vendordata2_raw(),
}.items():
    util.write_file(path, util.encode_text(content or ""), 0o600)
