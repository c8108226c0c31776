//! `image build`: from a base to a golden image, without booting either.

use std::fs;

use appliance::sys::stream::sha256_of_file;
use serde_json::Value;

use super::bed::{ROOMY, Site, failed, run, used};
use crate::harness::{document, said};
use crate::outputs::validate;

#[test]
fn a_base_becomes_a_golden_image_without_booting() {
    let site = Site::with(&used(), ROOMY);
    let base = sha256_of_file(&site.base()).unwrap();
    let output = site.build(&[]).output().unwrap();
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("attached by"), "{told}");
    assert!(
        told.contains("SSH host keys") && told.contains("0 failed"),
        "{told}"
    );
    site.assert_clean(&["golden.qcow2", "golden.qcow2.sha256"]);
    assert_eq!(
        sha256_of_file(&site.base()).unwrap(),
        base,
        "the base was changed"
    );

    let made = site.path("made");
    run(
        "sh",
        &[
            "-c",
            "cd \"$1\" && sha256sum --check golden.qcow2.sha256",
            "sh",
            made.to_str().unwrap(),
        ],
    );
    let info = run(
        "qemu-img",
        &["info", "--output=json", site.output().to_str().unwrap()],
    );
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        (&info["format"], &info["virtual-size"]),
        (&"qcow2".into(), &ROOMY.into())
    );

    let document = site.inside("\"$2\" image check --root \"$1\" -o json");
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(failed(&document), Vec::<String>::new());
    let looked_at =
        site.inside("cat \"$1\"/etc/machine-id; ls -A \"$1\"/etc/ssh; cat \"$1\"/etc/shadow");
    assert!(
        !looked_at.contains("ssh_host") && !looked_at.contains("hash"),
        "{looked_at}"
    );
}

#[test]
fn a_raw_disk_without_partitions_and_an_image_that_was_there_are_no_obstacle() {
    let site = Site::with(&used(), ROOMY);
    let tree = used();
    let raw = site.base();
    fs::remove_file(&raw).unwrap();
    let (root, raw) = (tree.root(), raw.to_str().unwrap());
    run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-d",
            root.to_str().unwrap(),
            raw,
            "400m",
        ],
    );
    fs::write(site.output(), "an older image").unwrap();
    fs::write(site.path("made/golden.qcow2.sha256"), "its digest").unwrap();
    let output = site.build(&["--compress", "-o", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    validate("image-build", &document(&output));
    site.assert_clean(&["golden.qcow2", "golden.qcow2.sha256"]);
    let digest = fs::read_to_string(site.path("made/golden.qcow2.sha256")).unwrap();
    let expected = sha256_of_file(&site.output()).unwrap();
    assert_eq!(digest, format!("{expected}  golden.qcow2\n"));
}
