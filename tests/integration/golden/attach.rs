//! The other ways to attach an image: stand-ins for their programs behave like the real ones.

use std::fs;
use std::process::Command;

use super::bed::{ROOMY, START, Site, failed, system, used};
use crate::harness::said;

/// libguestfs reads the image in a VM; here the kernel does it. A process lives as long as the
/// mount.
fn fake_guestfs(site: &Site) {
    let guestmount = format!(
        "case \"$1\" in --version) exit 0;; esac\n\
         while [ $# -gt 1 ]; do case \"$1\" in\n\
           --add) image=$2; shift;; --pid-file=*) pid=${{1#*=}};; esac; shift; done\n\
         qemu-img convert -f qcow2 -O raw \"$image\" \"$image.raw\" || exit 1\n\
         mount -o loop,offset={START} \"$image.raw\" \"$1\" || {{ rm \"$image.raw\"; exit 1; }}\n\
         setsid sleep 1000 >/dev/null 2>&1 & echo $! >\"$pid\"",
    );
    site.fake("guestmount", &guestmount);
    let guestunmount = "umount \"$1\" || exit 1\n\
         work=${1%/root}/work\n\
         qemu-img convert -f raw -O qcow2 \"$work.raw\" \"$work\" && rm \"$work.raw\"\n\
         kill $(cat \"$1.pid\") && rm \"$1.pid\"";
    site.fake("guestunmount", guestunmount);
}

#[test]
fn libguestfs_attaches_where_it_is_asked_to() {
    let site = Site::with(&used(), ROOMY);
    fake_guestfs(&site);
    let output = site.build(&["--attach", "libguestfs"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("attached by libguestfs"),
        "{}",
        said(&output)
    );
    site.assert_clean(&["golden.qcow2", "golden.qcow2.sha256"]);
    let document = site.inside("\"$2\" image check --root \"$1\" -o json");
    assert_eq!(
        failed(&serde_json::from_str(&document).unwrap()),
        Vec::<String>::new()
    );
}

/// A machine whose kernel has one network block device: a link to a raw file while qemu-nbd is
/// connected to it. Only the build sees it.
fn with_nbd(site: &Site, build: &Command) -> Command {
    let nbd = format!(
        "echo \"$*\" >>{log}\n\
         case \"$1\" in\n\
         --version) exit 0;;\n\
         --disconnect) qemu-img convert -f raw -O qcow2 $(readlink \"$2\") {log}.back &&\n\
           mv {log}.back $(cat {log}.image); rm \"$2\"; echo 0 >/sys/class/block/nbd0/size;;\n\
         *) for image; do :; done; echo \"$image\" >{log}.image\n\
           qemu-img convert -f qcow2 -O raw \"$image\" {log}.raw && ln -s {log}.raw /dev/nbd0 &&\n\
           echo 1 >/sys/class/block/nbd0/size;;\n\
         esac",
        log = site.path("nbd").display()
    );
    site.fake("qemu-nbd", &nbd);
    // The required nodes of the real /dev, in a directory that may be changed.
    let enter = "set -e; mount -t tmpfs none /sys/class/block; mkdir /sys/class/block/nbd0\n\
                 echo 0 >/sys/class/block/nbd0/size; mkdir \"$1\"; mount -t tmpfs none \"$1\"\n\
                 cp -a /dev/null /dev/urandom /dev/loop-control /dev/loop[0-9]* \"$1\"\n\
                 mount --bind \"$1\" /dev; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", enter, "sh"])
        .arg(site.path("dev"))
        .arg(build.get_program())
        .args(build.get_args());
    for (name, value) in build.get_envs() {
        command.env(name, value.unwrap());
    }
    command
}

#[test]
fn network_block_devices_come_first_and_are_let_go() {
    let site = Site::with(&used(), ROOMY);
    let output = with_nbd(&site, &site.build(&[])).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("attached by nbd"),
        "{}",
        said(&output)
    );
    let asked = fs::read_to_string(site.path("nbd")).unwrap();
    assert!(
        asked.contains("--format=qcow2 --discard=unmap --connect=/dev/nbd0"),
        "{asked}"
    );
    assert!(asked.trim().ends_with("--disconnect /dev/nbd0"), "{asked}");
    site.assert_clean(&["golden.qcow2", "golden.qcow2.sha256"]);
    let document = site.inside("\"$2\" image check --root \"$1\" -o json");
    assert_eq!(
        failed(&serde_json::from_str(&document).unwrap()),
        Vec::<String>::new()
    );
}

#[test]
fn network_block_devices_are_let_go_when_the_base_is_refused() {
    let machine = system();
    machine.put("etc/kubernetes/ca/ca.pem", "");
    let site = Site::with(&machine, ROOMY);
    let output = with_nbd(&site, &site.build(&[])).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let asked = fs::read_to_string(site.path("nbd")).unwrap();
    assert!(asked.trim().ends_with("--disconnect /dev/nbd0"), "{asked}");
    site.assert_clean(&[]);
}
