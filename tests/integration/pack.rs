//! Packing: the same files give the same bytes, and only the right files are packed.

use std::fs;
use std::path::PathBuf;

use appliance::bundle::definition::Definition;
use appliance::bundle::lock::Lock;
use appliance::bundle::pack::{Places, pack};
use appliance::digest::Sha256;
use appliance::sys::progress::Silent;

use crate::harness::{SmallDisk, config, image, program, said, tarball};
use crate::workshop::{Workshop, gzip, names};

/// Packs the files of `components`.
const PACK: [&str; 8] = [
    "bundle",
    "pack",
    "--bundle",
    "@definition",
    "--components",
    "@components",
    "--output",
    "@payload",
];

/// The streams in the cache.
fn kept(workshop: &Workshop) -> Vec<PathBuf> {
    let dir = workshop.path("cache/packed");
    names(&dir).iter().map(|name| dir.join(name)).collect()
}

fn lock_of(url: &str, sha256: &str) -> String {
    format!("[[artifact]]\nurl = \"{url}\"\nsha256 = \"{sha256}\"\n")
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let workshop = Workshop::packed();
    // Neither times nor the order in a directory nor its path may matter.
    let other = Workshop::empty();
    for name in [
        "components/pause.tar",
        "components/kubectl",
        "components/etcd",
        "definition/bundle.toml",
    ] {
        other.put(name, &workshop.get(name));
    }
    other.pack("payload").unwrap();
    assert_eq!(workshop.get("payload"), other.get("payload"));
}

#[test]
fn the_bytes_are_the_same_with_a_cache_and_without() {
    let workshop = Workshop::new();
    let output = workshop.succeed(&PACK);
    assert!(!output.contains("are in the cache"), "{output}");
    let cold = workshop.get("payload");
    let output = workshop.succeed(&PACK);
    let expected = "3 of 3 compressed streams are in the cache";
    assert!(output.contains(expected), "{output}");
    assert_eq!(workshop.get("payload"), cold);

    let definition = Definition::read(&workshop.path("definition")).unwrap();
    let components = workshop.path("components");
    let places = Places {
        components: Some(&components),
        cache: None,
    };
    let output = workshop.path("payload");
    let begin = |_| Box::new(Silent) as _;
    pack(&definition, places, None, &output, begin).unwrap();
    assert_eq!(workshop.get("payload"), cold);
}

/// Makes etcd and kubectl that long: their code stays small.
fn grow(workshop: &Workshop, size: usize) {
    for name in ["components/etcd", "components/kubectl"] {
        let mut file = fs::File::options();
        let file = file.append(true).open(workshop.path(name)).unwrap();
        file.set_len(size as u64).unwrap();
    }
}

#[test]
fn only_the_streams_of_a_changed_file_are_compressed_again() {
    const SIZE: usize = 70 << 20;
    let workshop = Workshop::new();
    // Their code fits into one stream, the rest does not.
    grow(&workshop, SIZE);
    assert_eq!(workshop.pack("payload").unwrap().packs.len(), 4);
    let mut program = workshop.get("components/kubectl");
    let image = workshop.get("components/pause.tar");
    let three = "3 of 4 compressed streams are in the cache";
    let two = "2 of 4 compressed streams are in the cache";
    // Other data; then also other code, and another image.
    program[SIZE - 1] = 1;
    workshop.put("components/kubectl", &program);
    let output = workshop.succeed(&PACK);
    assert!(output.contains(three), "{output}");
    program[200] ^= 1;
    workshop.put("components/kubectl", &program);
    workshop.put("components/pause.tar", &[image, vec![0; 512]].concat());
    let output = workshop.succeed(&PACK);
    assert!(output.contains(two), "{output}");
    let unpacked = workshop.unpack().unwrap().join("bin/kubectl");
    assert!(fs::read(unpacked).unwrap() == program);
}

#[test]
fn the_programs_of_the_release_have_streams_of_their_own() {
    const SIZE: usize = 20 << 20;
    let workshop = Workshop::new();
    grow(&workshop, SIZE);
    // Both would fit into one stream, but only kubectl has the version of Kubernetes. Their code is small.
    assert_eq!(workshop.pack("payload").unwrap().packs.len(), 4);
    let mut program = workshop.get("components/kubectl");
    program[SIZE - 1] = 1;
    workshop.put("components/kubectl", &program);
    let output = workshop.succeed(&PACK);
    let expected = "3 of 4 compressed streams are in the cache";
    assert!(output.contains(expected), "{output}");
}

#[test]
fn a_damaged_stream_in_the_cache_is_found_and_replaced() {
    let workshop = Workshop::packed();
    let payload = workshop.get("payload");
    let kept = kept(&workshop);
    assert_eq!(kept.len(), 3);
    let mut content = fs::read(&kept[0]).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&kept[0], &content).unwrap();
    fs::write(&kept[1], &fs::read(&kept[1]).unwrap()[1..]).unwrap();
    fs::write(&kept[2], b"").unwrap();
    let output = workshop.succeed(&PACK);
    assert_eq!(output.matches("it is damaged").count(), 3, "{output}");
    assert!(workshop.get("payload") == payload);
    let output = workshop.succeed(&PACK);
    assert!(output.contains("3 of 3 compressed streams"), "{output}");
}

#[test]
fn two_runs_at_once_share_the_cache() {
    let workshop = Workshop::new();
    let mut second = PACK;
    second[7] = "@other";
    let runs = [PACK, second].map(|arguments| {
        let mut command = workshop.command(&arguments);
        let piped = command.stdout(std::process::Stdio::piped());
        let piped = piped.stderr(std::process::Stdio::piped());
        piped.spawn().unwrap()
    });
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(!said(&output).contains("warning"), "{}", said(&output));
    }
    assert!(workshop.get("payload") == workshop.get("other"));
    assert_eq!(kept(&workshop).len(), 3);
    let output = workshop.succeed(&PACK);
    assert!(output.contains("3 of 3 compressed streams"), "{output}");
}

#[test]
fn a_cache_that_cannot_be_written_is_no_failure() {
    let workshop = Workshop::packed();
    let payload = workshop.get("payload");
    let dir = workshop.path("cache/packed");
    let pack_with_a_warning = |reason: &str| {
        let output = workshop.succeed(&PACK);
        let warning = "cannot keep compressed streams: ";
        assert_eq!(output.matches(warning).count(), 1, "{output}");
        assert!(output.contains(reason), "{output}");
        assert!(workshop.get("payload") == payload);
    };
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, b"").unwrap();
    pack_with_a_warning("File exists");
    fs::remove_file(&dir).unwrap();
    // Nobody can create a file there.
    std::os::unix::fs::symlink("/proc/self/fdinfo", &dir).unwrap();
    pack_with_a_warning("cannot write");
    fs::remove_file(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    let _disk = SmallDisk::at(dir, "16k");
    pack_with_a_warning("No space left on device");
    // Nothing unfinished is left.
    let names = kept(&workshop);
    assert!(
        names
            .iter()
            .all(|path| fs::metadata(path).unwrap().len() > 0)
    );
    assert!(names.len() < 3);
}

#[test]
fn code_and_the_rest_of_a_program_are_packed_apart() {
    let manifest = Workshop::new().pack("payload").unwrap();
    let of = |name: &str| {
        let pack = manifest
            .packs
            .iter()
            .find(|pack| pack.name == name)
            .unwrap();
        let parts = pack
            .parts
            .iter()
            .map(|part| (part.path.as_str(), part.offset, part.size));
        parts.collect::<Vec<_>>()
    };
    assert_eq!(
        of("code-0.xz"),
        [("bin/etcd", 120, 150_000), ("bin/kubectl", 120, 100_000)]
    );
    assert_eq!(
        of("data-0.xz"),
        [
            ("bin/etcd", 0, 120),
            ("bin/etcd", 150_120, 149_880),
            ("bin/kubectl", 0, 120),
            ("bin/kubectl", 100_120, 99_880)
        ]
    );
    assert_eq!(of("images-0.xz")[0].0, "images/pause.tar");
}

#[test]
fn missing_components_are_listed_together_with_their_source() {
    let workshop = Workshop::new();
    fs::remove_file(workshop.path("components/etcd")).unwrap();
    fs::remove_file(workshop.path("components/pause.tar")).unwrap();
    let error = workshop.pack_refusal();
    assert!(
        error.contains(
            "etcd or etcd.tar.gz, from https://example.org/etcd.tar.gz; it has no checksum in bundle.lock"
        ),
        "{error}"
    );
    assert!(error.contains("\n  pause.tar"), "{error}");
}

#[test]
fn a_member_is_taken_out_of_its_archive_and_the_archive_checked_against_the_lock() {
    let workshop = Workshop::new();
    let etcd = workshop.get("components/etcd");
    let archive = workshop.archive_etcd();
    workshop.put("components/etcd.tar.gz", &archive);
    let url = "https://example.org/etcd.tar.gz";
    workshop.put(
        "definition/bundle.lock",
        lock_of(url, &"0".repeat(64)).as_bytes(),
    );
    let error = workshop.pack_refusal();
    let found = Sha256::of(&archive);
    assert!(
        error.contains(&format!(
            "etcd.tar.gz: its sha256 is {found}, but bundle.lock has 0000"
        )),
        "{error}"
    );
    assert!(
        error.contains("fetch it again from https://example.org/"),
        "{error}"
    );

    workshop.put(
        "definition/bundle.lock",
        lock_of(url, found.as_str()).as_bytes(),
    );
    workshop.pack("payload").unwrap();
    assert_eq!(
        fs::read(workshop.unpack().unwrap().join("bin/etcd")).unwrap(),
        etcd
    );
}

#[test]
fn a_bare_file_is_held_to_what_the_lock_says_is_in_the_archive() {
    let workshop = Workshop::new();
    let lock = |sha256: &Sha256| {
        let entry = lock_of("https://example.org/etcd.tar.gz", &"0".repeat(64));
        format!("{entry}\n[artifact.members]\n\"etcd-v3/etcd\" = \"{sha256}\"\n")
    };
    workshop.put(
        "definition/bundle.lock",
        lock(&Sha256::of(b"another")).as_bytes(),
    );
    let error = workshop.pack_refusal();
    assert!(
        error.contains("component etcd: etcd: its sha256 is"),
        "{error}"
    );
    let right = Sha256::of(&workshop.get("components/etcd"));
    workshop.put("definition/bundle.lock", lock(&right).as_bytes());
    workshop.pack("payload").unwrap();
}

#[test]
fn what_is_no_program_or_another_image_is_not_packed() {
    let workshop = Workshop::new();
    workshop.put("components/kubectl", b"<html>404 Not Found</html>");
    let error = workshop.pack_refusal();
    assert!(
        error.contains("kubectl: it is not a program for x86-64 Linux"),
        "{error}"
    );

    let mut arm = program("kubectl", 4096);
    arm[18] = 183;
    workshop.put("components/kubectl", &arm);
    let error = workshop.pack_refusal();
    assert!(
        error.contains("it is for another type of machine"),
        "{error}"
    );

    let workshop = Workshop::new();
    workshop.put("components/pause.tar", &image("example.org/other:1"));
    let error = workshop.pack_refusal();
    assert!(
        error.contains("is tagged example.org/other:1, not example.org/google/pause:3.0"),
        "{error}"
    );
}

#[test]
fn an_image_whose_parts_do_not_belong_together_is_not_packed() {
    let reference = "example.org/google/pause:3.0";
    let layer = tarball(&[("hello", b"hello")]);
    let archive = |config: &[u8], layer: &[u8]| {
        let manifest = format!(
            r#"[{{"Config":"c.json","RepoTags":["{reference}"],"Layers":["l/layer.tar"]}}]"#
        );
        tarball(&[
            ("l/layer.tar", layer),
            ("c.json", config),
            ("manifest.json", manifest.as_bytes()),
        ])
    };
    let cases = [
        (
            "is for linux/arm64, not for linux/amd64",
            archive(&config("arm64", &[&layer]), &layer),
        ),
        (
            "l/layer.tar: its content has the sha256",
            archive(&config("amd64", &[&layer]), b"another layer"),
        ),
        (
            "has 2 layers, but its manifest.json has 1",
            archive(&config("amd64", &[&layer, &layer]), &layer),
        ),
        (
            "not a tarball from `docker save`",
            b"not a tar at all".repeat(64),
        ),
        ("it has no manifest.json", tarball(&[("x", b"{}")])),
    ];
    for (expected, content) in cases {
        let workshop = Workshop::new();
        workshop.put("components/pause.tar", &content);
        let error = workshop.pack_refusal();
        assert!(
            error.contains(expected) && error.contains("pause"),
            "{expected}: {error}"
        );
    }
}

#[test]
fn the_image_is_known_by_the_digest_docker_will_give_it() {
    let manifest = Workshop::new().pack("payload").unwrap();
    let layer = tarball(&[("hello", b"example.org/google/pause:3.0")]);
    let id = Sha256::of(&config("amd64", &[&layer]));
    assert_eq!(
        manifest.images().next().unwrap().image_id,
        Some(format!("sha256:{id}"))
    );
}

#[test]
fn an_archive_that_could_lead_astray_is_refused() {
    let etcd = program("etcd", 4096);
    let escaping = |path: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(1);
        header.set_cksum();
        archive.append(&header, &b"x"[..]).unwrap();
        archive.into_inner().unwrap()
    };
    let special = |kind: tar::EntryType| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive
            .append_link(&mut header, "etcd-v3/etcd", "/etc/passwd")
            .unwrap();
        archive.into_inner().unwrap()
    };
    let cases = [
        ("leads outside the archive", escaping("../../etc/passwd")),
        ("leads outside the archive", escaping("/etc/passwd")),
        ("is not a regular file", special(tar::EntryType::Symlink)),
        ("is not a regular file", special(tar::EntryType::Link)),
        ("is not a regular file", special(tar::EntryType::Char)),
        (
            "it has the member etcd-v3/etcd twice",
            tarball(&[("etcd-v3/etcd", &etcd), ("./etcd-v3/etcd", &etcd)]),
        ),
        (
            "it has no member etcd-v3/etcd",
            tarball(&[("etcd-v4/etcd", &etcd)]),
        ),
        ("more than the limit of", vec![0; 200 << 20]),
    ];
    for (expected, content) in cases {
        let workshop = Workshop::new();
        fs::remove_file(workshop.path("components/etcd")).unwrap();
        let mut content = content;
        if expected.contains("the limit") {
            // A member with many zeros, which compress to a thousandth of their size.
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            archive
                .append_data(&mut header, "etcd-v3/etcd", content.as_slice())
                .unwrap();
            content = archive.into_inner().unwrap();
        }
        workshop.put("components/etcd.tar.gz", &gzip(&content));
        let error = workshop.pack_refusal();
        assert!(
            error.contains(expected) && error.contains("etcd.tar.gz"),
            "{expected}: {error}"
        );
    }
}

#[test]
fn a_file_that_is_no_payload_is_never_replaced() {
    let workshop = Workshop::new();
    workshop.put("thesis.txt", b"years of work");
    let error = workshop.pack("thesis.txt").unwrap_err().to_string();
    assert!(error.contains("is not a payload"), "{error}");
    assert_eq!(workshop.get("thesis.txt"), b"years of work");
    let error = workshop.pack("opt").unwrap_err().to_string();
    assert!(error.contains("opt exists and is not a payload"), "{error}");
}

#[test]
fn the_locks_of_this_tree_are_as_the_program_writes_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/bundle/v1.9/bundle.lock");
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(Lock::parse(&text).unwrap().to_text().unwrap(), text);
}
