//! Config drives with some of the formats, and with links.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use tempfile::TempDir;

/// A drive's directory.
pub struct Drive {
    pub dir: TempDir,
    /// What is on it, for messages.
    pub layout: String,
    /// Why cloud-init may read something else.
    pub reason: Option<&'static str>,
}

const FORMATS: [&str; 5] = [
    "latest",
    "2012-08-10",
    "2015-10-15",
    "2018-08-27",
    "2020-10-14",
];
const NEW: &str = "cloud-init does not know formats after 2018-08-27; this program reads them";
const OUTSIDE: &str = "cloud-init follows a link out of the drive; this program refuses it";

/// How the files of a format are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Files,
    /// `meta_data.json` and `user_data` are links to files elsewhere on the drive.
    Links,
    /// The folder is a link to another one.
    LinkedFolder,
    /// `user_data` is a link to a file of this machine.
    Outside,
    /// Without `user_data`.
    NoUserData,
}

/// Every set of formats, in each way.
pub fn all() -> Vec<Drive> {
    let hows = [
        How::Files,
        How::Links,
        How::LinkedFolder,
        How::Outside,
        How::NoUserData,
    ];
    let sets = 1..1u32 << FORMATS.len();
    let made = sets.flat_map(|set| hows.map(|how| (set, how)));
    made.map(|(set, how)| drive(set, how)).collect()
}

fn drive(set: u32, how: How) -> Drive {
    let dir = tempfile::tempdir().unwrap();
    let openstack = dir.path().join("openstack");
    let (mut layout, mut known) = (format!("{how:?}:"), false);
    fs::create_dir_all(openstack.join("content")).unwrap();
    let meta = json!({"uuid": "u", "name": "lorry", "hostname": "lorry.novalocal"}).to_string();
    let user_data = "#cloud-config\n{}\n";
    fs::write(openstack.join("content/0000"), &meta).unwrap();
    fs::write(openstack.join("content/0001"), user_data).unwrap();
    let there = (0..FORMATS.len()).filter(|bit| set & 1 << bit != 0);
    for format in there.map(|bit| FORMATS[bit]) {
        let folder = openstack.join(format);
        write!(layout, " {format}").unwrap();
        known |= format != "2020-10-14";
        if how == How::LinkedFolder {
            let target = openstack.join(format!("of-{format}"));
            fs::create_dir(&target).unwrap();
            symlink(format!("of-{format}"), &folder).unwrap();
        } else {
            fs::create_dir(&folder).unwrap();
        }
        match how {
            How::Links => {
                symlink("../content/0000", folder.join("meta_data.json")).unwrap();
                symlink("../content/0001", folder.join("user_data")).unwrap();
                continue;
            }
            How::Outside => symlink("/etc/hostname", folder.join("user_data")).unwrap(),
            How::Files | How::LinkedFolder => {
                fs::write(folder.join("user_data"), user_data).unwrap();
            }
            How::NoUserData => {}
        }
        fs::write(folder.join("meta_data.json"), &meta).unwrap();
    }
    let reason = match how {
        How::Outside => Some(OUTSIDE),
        _ => (!known).then_some(NEW),
    };
    Drive {
        dir,
        layout,
        reason,
    }
}
