//! The disks a cloud attaches to a server: its config drive, and a volume with the appliance.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The file system of a config drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ISO 9660, Nova's default.
    Iso9660,
    /// VFAT, as older clouds have it, labelled in capitals as its tools do.
    Vfat,
}

/// What OpenStack says about a server on its config drive.
#[derive(Clone, Debug)]
pub struct ConfigDrive {
    /// The server's name.
    pub name: String,
    /// The server's UUID.
    pub uuid: String,
    /// Its properties.
    pub meta: BTreeMap<String, String>,
    /// The MAC address of its interface.
    pub mac: String,
    /// Its static IPv4 address, in a /24 network.
    pub address: String,
    /// Its user-data.
    pub user_data: String,
    /// Its file system.
    pub format: Format,
}

impl ConfigDrive {
    /// The tutorial's master: server02, 192.168.1.102, role master.
    pub fn master(user_data: &str) -> ConfigDrive {
        ConfigDrive {
            name: "server02".to_owned(),
            uuid: "5f7a1c9e-3b0d-4a52-9c77-0e8f6d2b4a02".to_owned(),
            meta: BTreeMap::from([("role".to_owned(), "master".to_owned())]),
            mac: "fa:16:3e:00:00:02".to_owned(),
            address: "192.168.1.102".to_owned(),
            user_data: user_data.to_owned(),
            format: Format::Iso9660,
        }
    }

    /// Writes it as Nova does, labelled `config-2`.
    pub fn write(&self, image: &Path) -> Result<()> {
        let tree = tempfile::tempdir()?;
        for version in ["latest", "2015-10-15"] {
            let dir = tree.path().join("openstack").join(version);
            fs::create_dir_all(&dir)?;
            fs::write(dir.join("meta_data.json"), self.meta_data().to_string())?;
            fs::write(
                dir.join("network_data.json"),
                self.network_data().to_string(),
            )?;
            fs::write(dir.join("user_data"), &self.user_data)?;
        }
        match self.format {
            Format::Iso9660 => iso(tree.path(), "config-2", image),
            Format::Vfat => vfat(tree.path(), "CONFIG-2", image),
        }
    }

    fn meta_data(&self) -> Value {
        json!({
            "uuid": self.uuid,
            "name": self.name,
            "hostname": format!("{}.novalocal", self.name),
            "launch_index": 0,
            "availability_zone": "nova",
            "project_id": "0c3f5a1e2d4b4c6f8a9b0d1e2f3a4b5c",
            "meta": self.meta,
        })
    }

    fn network_data(&self) -> Value {
        json!({
            "links": [{
                "id": "tap1a2b3c4d-5e",
                "vif_id": "1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d",
                "type": "bridge",
                "mtu": 1450,
                "ethernet_mac_address": self.mac,
            }],
            "networks": [{
                "id": "network0",
                "type": "ipv4",
                "link": "tap1a2b3c4d-5e",
                "network_id": "7d1c2b3a-4e5f-4a6b-9c8d-1e2f3a4b5c6d",
                "ip_address": self.address,
                "netmask": "255.255.255.0",
                "routes": [],
            }],
            "services": [],
        })
    }
}

/// Writes a volume labelled `APPLIANCE` that brings the program and its unit to a VM.
pub fn write_volume(appliance: &Path, image: &Path) -> Result<()> {
    let tree = tempfile::tempdir()?;
    let unit =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cloud-init/appliance-install.service");
    for (file, name) in [
        (appliance, "appliance"),
        (&unit, "appliance-install.service"),
    ] {
        fs::copy(file, tree.path().join(name)).with_context(|| file.display().to_string())?;
    }
    iso(tree.path(), "APPLIANCE", image)
}

fn iso(tree: &Path, label: &str, image: &Path) -> Result<()> {
    let mut genisoimage = Command::new("genisoimage");
    genisoimage
        .args(["-quiet", "-J", "-r", "-V", label, "-o"])
        .arg(image)
        .arg(tree);
    run(&mut genisoimage, "genisoimage")
}

fn vfat(tree: &Path, label: &str, image: &Path) -> Result<()> {
    // Nova's size.
    fs::File::create(image)?.set_len(64 * 1024 * 1024)?;
    run(
        Command::new("mkfs.vfat").args(["-n", label]).arg(image),
        "dosfstools",
    )?;
    let mut mcopy = Command::new("mcopy");
    mcopy
        .arg("-s")
        .arg("-i")
        .arg(image)
        .arg(tree.join("openstack"))
        .arg("::");
    run(&mut mcopy, "mtools")
}

fn run(command: &mut Command, package: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} (Debian package {package})"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
