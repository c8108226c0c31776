//! Components inside archives and images: what is taken out, and what is refused.

use std::io::{Read, Write};
use std::process::Output;

use appliance::digest::Sha256;
use tar::EntryType;

use crate::harness::{program, said, saved, tarball};
use crate::workshop::{Workshop, gzip, names};

const URL: &str = "https://example.org/release.tgz";
const CNI: &str = "release/images/cni.tar";
const NODE: &str = "release/images/node.tar";
const REFERENCE: &str = "quay.io/calico/node:v2.6.2";

/// A bundle with a program in an image in an archive, an image in that archive, and a plain member.
fn workshop(archive: &[u8]) -> Workshop {
    let workshop = Workshop::empty();
    let component = |name: &str, kind: &str, path: &str, more: &str| {
        format!(
            "[[component]]\nname = \"{name}\"\nkind = \"{kind}\"\nversion = \"1\"\npath = \"{path}\"\n\
             file = \"{name}\"\nsource = \"{URL}\"\n{more}\n"
        )
    };
    let file = format!("member = \"{CNI}\"\nimage-file = \"/opt/cni/bin/calico\"");
    let image = format!("member = \"{NODE}\"\nreference = \"{REFERENCE}\"");
    let text = [
        "[bundle]\nname = \"t\"\nkubernetes = \"v1.9.0\"\ndescription = \"d\"\n".to_owned(),
        component("calico", "cni-plugin", "cni/bin/calico", &file),
        component("node", "image", "images/node.tar", &image),
        component("ctl", "program", "bin/ctl", "member = \"release/bin/ctl\""),
    ];
    workshop.put("definition/bundle.toml", text.join("\n").as_bytes());
    workshop.put(
        "definition/bundle.lock",
        format!(
            "[[artifact]]\nurl = \"{URL}\"\nsha256 = \"{}\"\n",
            Sha256::of(archive)
        )
        .as_bytes(),
    );
    workshop.put("components/release.tgz", archive);
    workshop
}

fn pack(workshop: &Workshop) -> Output {
    workshop.run(&[
        "bundle",
        "pack",
        "--bundle",
        "@definition",
        "--components",
        "@components",
        "--output",
        "@payload",
    ])
}

/// An archive with these images.
fn archive(cni: &[u8], node: &[u8]) -> Vec<u8> {
    gzip(&tarball(&[
        (CNI, cni),
        (NODE, node),
        ("release/bin/ctl", &program("ctl", 9_000)),
    ]))
}

fn good_node() -> Vec<u8> {
    saved(&[("calico/node:latest", &[&tarball(&[("bin/bird", b"bird")])])])
}

/// An image with those layers.
fn cni(layers: &[&[u8]]) -> Vec<u8> {
    saved(&[("calico/cni:v1.11.0", layers)])
}

/// A layer of a file, a link, a hard link or a directory, each with its path and its target or content.
fn layer(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        // Written as it is: `tar` refuses paths that climb.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
        }
        let content: &[u8] = if is_link { b"" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The program that packing takes out of the image with those layers.
fn taken(layers: &[&[u8]]) -> Vec<u8> {
    let workshop = workshop(&archive(&cni(layers), &good_node()));
    let output = pack(&workshop);
    assert!(output.status.success(), "{}", said(&output));
    std::fs::read(workshop.unpack().unwrap().join("cni/bin/calico")).unwrap()
}

/// Packing fails, writes nothing, and says these words.
fn refused(archive: &[u8], words: &[&str]) {
    let workshop = workshop(archive);
    let output = pack(&workshop);
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!names(&workshop.path("")).contains(&"payload".to_owned()));
    let left = names(&workshop.path("cache"));
    assert!(
        left.iter().all(
            |name| ["blobs", "partial", "rejected"].contains(&name.as_str()) || name == "packed"
        ),
        "{left:?}"
    );
}

const FILE: EntryType = EntryType::Regular;
const BINARY: &str = "opt/cni/bin/calico";

#[test]
fn images_and_files_come_out_of_an_archive_with_the_names_of_the_bundle() {
    let calico = program("calico", 20_000);
    let workshop = workshop(&archive(
        &cni(&[&layer(&[(FILE, BINARY, &calico)])]),
        &good_node(),
    ));
    let output = pack(&workshop);
    assert!(output.status.success(), "{}", said(&output));
    let unpacked = workshop.unpack().unwrap();
    let read = |path: &str| std::fs::read(unpacked.join(path)).unwrap();
    assert_eq!(read("cni/bin/calico"), calico);
    assert_eq!(read("bin/ctl"), program("ctl", 9_000));
    let mut text = String::new();
    let image = read("images/node.tar");
    let mut archive = tar::Archive::new(&*image);
    let mut entries = archive.entries().unwrap();
    let mut manifest = entries.next().unwrap().unwrap();
    manifest.read_to_string(&mut text).unwrap();
    assert!(
        text.contains(REFERENCE) && !text.contains("latest"),
        "{text}"
    );
}

#[test]
fn higher_layers_replace_and_hide_files_of_lower_ones() {
    let (old, new) = (program("old", 9_000), program("new", 9_000));
    let below = layer(&[(FILE, BINARY, &old)]);
    assert_eq!(taken(&[&below, &layer(&[(FILE, BINARY, &new)])]), new);
    let whiteout = |path: &str| layer(&[(FILE, path, b"")]);
    for hidden in [
        "opt/cni/bin/.wh.calico",
        "opt/.wh.cni",
        "opt/cni/.wh..wh..opq",
    ] {
        let images = cni(&[&below, &whiteout(hidden)]);
        refused(
            &archive(&images, &good_node()),
            &["the image has no file /opt/cni/bin/calico", CNI],
        );
        // A file of the same layer, or of one above, is there again.
        assert_eq!(
            taken(&[&below, &layer(&[(FILE, hidden, b""), (FILE, BINARY, &new)])]),
            new
        );
    }
    // Something else is hidden.
    assert_eq!(taken(&[&below, &whiteout("opt/cni/bin/.wh.flannel")]), old);
}

#[test]
fn links_are_followed_inside_the_image_only() {
    let calico = program("calico", 9_000);
    let real = (FILE, "usr/lib/calico", calico.as_slice());
    for links in [
        vec![(EntryType::Symlink, BINARY, b"/usr/lib/calico".as_slice())],
        vec![(
            EntryType::Symlink,
            BINARY,
            b"../../../usr/lib/calico".as_slice(),
        )],
        vec![(EntryType::Link, BINARY, b"usr/lib/calico".as_slice())],
        vec![(EntryType::Symlink, "opt/cni/bin", b"/usr/lib".as_slice())],
    ] {
        let entries = [vec![real], links].concat();
        assert_eq!(taken(&[&layer(&entries)]), calico);
    }
    // A file of an upper layer goes where the link of the lower one leads.
    let link = layer(&[(EntryType::Symlink, "opt/cni/bin", b"/usr/lib")]);
    assert_eq!(taken(&[&link, &layer(&[(FILE, BINARY, &calico)])]), calico);

    let climbing = [(
        EntryType::Symlink,
        BINARY,
        b"../../../../../etc/shadow".as_slice(),
    )];
    let circle = [
        (EntryType::Symlink, BINARY, b"other".as_slice()),
        (EntryType::Symlink, "opt/cni/bin/other", b"calico"),
    ];
    for (entries, word) in [
        (climbing.as_slice(), "leads out of the image by a link"),
        (circle.as_slice(), "is a circle of links"),
    ] {
        let images = cni(&[&layer(entries)]);
        refused(&archive(&images, &good_node()), &[word, CNI]);
    }
}

#[test]
fn what_is_missing_is_told_with_what_there_is() {
    let calico = layer(&[(FILE, BINARY, &program("calico", 9_000))]);
    let without = gzip(&tarball(&[
        (CNI, &cni(&[&calico])),
        ("release/README", b"r"),
    ]));
    refused(&without, &[NODE, "release/README"]);
    let flannel = layer(&[(FILE, "opt/cni/bin/flannel", b"f")]);
    refused(
        &archive(&cni(&[&flannel]), &good_node()),
        &["/opt/cni/bin has flannel"],
    );
    let directory = layer(&[(FILE, "opt/cni/bin/calico/inner", b"f")]);
    refused(
        &archive(&cni(&[&directory]), &good_node()),
        &["is a directory in the image; it has inner"],
    );
}

#[test]
fn an_image_is_chosen_among_several_by_its_name() {
    let calico = program("calico", 9_000);
    let images = cni(&[&layer(&[(FILE, BINARY, &calico)])]);
    let (right, other) = (tarball(&[("a", b"a")]), tarball(&[("b", b"b")]));
    let both = saved(&[
        ("calico/node:v2.6.2", &[&right]),
        ("calico/node:old", &[&other]),
    ]);
    let workshop = workshop(&archive(&images, &both));
    let output = pack(&workshop);
    assert!(output.status.success(), "{}", said(&output));
    let node = std::fs::read(workshop.unpack().unwrap().join("images/node.tar")).unwrap();
    let is_in = |layer: &[u8]| node.windows(layer.len()).any(|window| window == layer);
    assert!(is_in(&right) && !is_in(&other));

    let neither = saved(&[("a/b:1", &[&right]), ("c/d:2", &[&other])]);
    refused(&archive(&images, &neither), &["a/b:1, c/d:2", NODE]);
    let twice = saved(&[
        ("calico/node:v2.6.2", &[&right]),
        ("calico/node:v2.6.2", &[&other]),
    ]);
    refused(
        &archive(&images, &twice),
        &["two images in it have the name calico/node:v2.6.2", NODE],
    );
}

#[test]
fn hostile_archives_are_refused_with_the_name_of_the_member() {
    let calico = layer(&[(FILE, BINARY, &program("calico", 9_000))]);
    let images = cni(&[&calico]);
    let climbing = layer(&[(FILE, "../../etc/cron.d/x", b"x"), (FILE, CNI, &images)]);
    refused(
        &gzip(&climbing),
        &["../../etc/cron.d/x", "leads outside the archive"],
    );
    let inner = cni(&[&layer(&[
        (FILE, "../../etc/passwd", b"x"),
        (FILE, BINARY, b"y"),
    ])]);
    refused(&archive(&inner, &good_node()), &["../../etc/passwd", CNI]);
    let link = layer(&[(EntryType::Symlink, CNI, b"/etc/passwd")]);
    refused(&gzip(&link), &["is not a regular file", CNI]);
    let missing = tarball(&[(
        "manifest.json",
        br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["x/layer.tar"]}]"#,
    )]);
    refused(&archive(&images, &missing), &["it has no c.json", NODE]);
    let garbage = vec![7; 2000];
    refused(
        &archive(&images, &garbage),
        &["not a tarball from `docker save`", NODE],
    );
    // The layer is not the one of the configuration.
    let (one, other) = (tarball(&[("a", b"a")]), tarball(&[("b", b"b")]));
    let forged = saved(&[("calico/node:latest", &[&one])]);
    let at = forged
        .windows(one.len())
        .position(|window| window == one)
        .unwrap();
    let mut changed = forged.clone();
    changed[at..at + other.len()].copy_from_slice(&other);
    refused(
        &archive(&images, &changed),
        &["its content has the sha256", NODE],
    );
}

#[test]
fn a_layer_of_a_hundred_gigabytes_is_refused_before_it_is_written() {
    const HUGE: u64 = 100 * 1024 * 1024 * 1024;
    let mut header = tar::Header::new_gnu();
    header.set_path(CNI).unwrap();
    header.set_size(HUGE);
    header.set_mode(0o644);
    header.set_cksum();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(header.as_bytes()).unwrap();
    encoder.write_all(&[0; 1_000_000]).unwrap();
    refused(
        &encoder.finish().unwrap(),
        &[CNI, &HUGE.to_string(), "more than the limit of"],
    );
    // A sparse file of that size takes a few bytes.
    let mut sparse = tar::Header::new_gnu();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_path(BINARY).unwrap();
    sparse.set_size(0);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.realsize
        .copy_from_slice(b"\x80\0\0\0\0\0\0\x19\0\0\0\0");
    gnu.sparse[0]
        .offset
        .copy_from_slice(b"\x80\0\0\0\0\0\0\x19\0\0\0\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
    sparse.set_cksum();
    let mut layer = sparse.as_bytes().to_vec();
    layer.extend([0; 1024]);
    refused(
        &archive(&cni(&[&layer]), &good_node()),
        &[BINARY, "is sparse", CNI],
    );
}
