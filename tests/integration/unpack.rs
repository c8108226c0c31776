//! Unpacking: the packed files come out unchanged, and nothing else.

use std::fs;
use std::io::Write;
use std::sync::Mutex;

use appliance::bundle::manifest::{DIRECTORY, FILE_NAME, Manifest, Part};
use appliance::bundle::unpack::{is_complete, unpack_in_place};
use appliance::digest::Sha256;
use appliance::sys::progress::Silent;

use crate::harness::{SmallDisk, program};
use crate::workshop::{Workshop, names};

const STREAMS: [&str; 3] = ["code-0.xz", "data-0.xz", "images-0.xz"];

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_goes_in_comes_out() {
    let workshop = Workshop::packed();
    let dir = workshop.unpack().unwrap();
    for (packed, original) in [
        ("bin/etcd", "etcd"),
        ("bin/kubectl", "kubectl"),
        ("images/pause.tar", "pause.tar"),
    ] {
        let expected = workshop.get(&format!("components/{original}"));
        assert_eq!(fs::read(dir.join(packed)).unwrap(), expected, "{packed}");
    }
    let payload = workshop.payload();
    assert_eq!(
        dir.file_name().unwrap().to_str().unwrap(),
        payload.digest().as_str()
    );
    assert!(is_complete(&workshop.path("opt"), &payload));
    assert_eq!(names(&workshop.path("opt")), [payload.digest().as_str()]);
    assert_eq!(
        fs::read(dir.join(FILE_NAME)).unwrap(),
        payload.manifest_text()
    );
}

#[test]
fn files_that_are_the_same_are_packed_once_and_unpacked_each() {
    let workshop = Workshop::packed();
    let alone = workshop.get("payload").len();
    let etcd = workshop.get("components/etcd");
    workshop.put("components/etcdctl", &etcd);
    let definition = String::from_utf8(workshop.get("definition/bundle.toml")).unwrap();
    let more = "[[component]]\nname = \"etcdctl\"\nkind = \"program\"\nversion = \"3.1.10\"\n\
                path = \"bin/etcdctl\"\nfile = \"etcdctl\"\n";
    workshop.put(
        "definition/bundle.toml",
        format!("{definition}\n{more}").as_bytes(),
    );
    let manifest = workshop.pack("payload").unwrap();
    let copies: Vec<&str> = manifest
        .packs
        .iter()
        .flat_map(|pack| &pack.parts)
        .filter(|part| part.path == "bin/etcd")
        .flat_map(Part::paths)
        .collect();
    // What is before the code, the code, and what is after it.
    assert_eq!(copies, ["bin/etcd", "bin/etcdctl"].repeat(3));
    assert!(workshop.get("payload").len() < alone + 1000);
    let dir = workshop.unpack().unwrap();
    for path in ["bin/etcd", "bin/etcdctl"] {
        assert_eq!(fs::read(dir.join(path)).unwrap(), etcd, "{path}");
    }
}

#[test]
fn a_flipped_byte_anywhere_in_a_pack_is_found() {
    let workshop = Workshop::packed();
    let good = workshop.get("payload");
    for stream in STREAMS {
        let place = workshop.stream(stream);
        let length = place.len();
        for position in [0, 8, 20, length / 3, length / 2, length - 20, length - 1] {
            let mut bad = good.clone();
            bad[place.start + position] ^= 0x10;
            workshop.put("payload", &bad);
            let error = workshop.unpack_refusal();
            assert!(
                error.contains("the sha256 of its payload is") && error.contains("damaged"),
                "{stream}, byte {position}: {error}"
            );
            workshop.put("payload", &good);
            // Whoever records the new digest of the whole cannot record that of the stream.
            let changed = &bad[place.clone()];
            workshop.forge(|_| (), Some((stream, changed)));
            let error = workshop.unpack_refusal();
            assert!(
                error.contains(stream) && error.contains("damaged"),
                "{stream}, byte {position}: {error}"
            );
            workshop.put("payload", &good);
        }
    }
}

#[test]
fn a_cut_payload_is_found() {
    let workshop = Workshop::packed();
    let good = workshop.get("payload");
    for length in [4, 100, good.len() / 2, good.len() - 1] {
        workshop.put("payload", &good[..length]);
        let error = workshop.unpack_refusal();
        assert!(
            error.contains("damaged or cut off"),
            "{length} bytes: {error}"
        );
    }
    workshop.put("payload", b"");
    assert!(
        workshop
            .unpack_refusal()
            .contains("neither a payload nor an appliance")
    );
}

#[test]
fn a_cut_stream_is_found() {
    let workshop = Workshop::packed();
    let good = workshop.get("payload")[workshop.stream("data-0.xz")].to_vec();
    for length in [5, good.len() / 2, good.len() - 1] {
        workshop.forge(|_| (), Some(("data-0.xz", &good[..length])));
        let error = workshop.unpack_refusal();
        assert!(
            error.contains("data-0.xz") && error.contains("damaged"),
            "{length} bytes: {error}"
        );
    }
}

#[test]
fn trailing_bytes_are_found() {
    let workshop = Workshop::packed();
    let mut stream = workshop.get("payload")[workshop.stream("code-0.xz")].to_vec();
    stream.push(b'x');
    workshop.forge(|_| (), Some(("code-0.xz", &stream)));
    let error = workshop.unpack_refusal();
    assert!(
        error.contains("code-0.xz") && error.contains(" were packed;"),
        "{error}"
    );
}

#[test]
fn a_manifest_whose_paths_escape_is_refused() {
    for path in ["../etc/passwd", "/etc/passwd", "bin/../../x"] {
        let workshop = Workshop::packed();
        let change = |manifest: &mut Manifest| {
            manifest.components[0].path = path.to_owned();
        };
        workshop.forge(change, None);
        let error = workshop.unpack_refusal();
        assert!(error.contains("leads outside"), "{error}");
    }
}

#[test]
fn a_stream_that_is_not_what_the_manifest_says_is_refused() {
    let images = Workshop::new().get("components/pause.tar");
    let more = [images.as_slice(), b"more"].concat();
    let other = program("other", images.len());
    let cases: [(&str, &[u8]); 3] = [
        ("it has more data than was packed", &more),
        ("bytes of a part of", &images[..1000]),
        ("the sha256 of a part is", &other),
    ];
    for (expected, content) in cases {
        let workshop = Workshop::packed();
        let stream = xz(content);
        let agree = |manifest: &mut Manifest| {
            let pack = manifest
                .packs
                .iter_mut()
                .find(|pack| pack.name == "images-0.xz")
                .unwrap();
            pack.size = stream.len() as u64;
            pack.sha256 = Sha256::of(&stream);
        };
        workshop.forge(agree, Some(("images-0.xz", &stream)));
        let error = workshop.unpack_refusal();
        assert!(
            error.contains(expected) && error.contains("images-0.xz"),
            "{expected}: {error}"
        );
    }
}

#[test]
fn a_stream_that_would_take_more_memory_than_there_may_be_is_refused() {
    let workshop = Workshop::packed();
    workshop.forge(|manifest| manifest.packs[0].memory = 1 << 40, None);
    assert!(workshop.unpack_refusal().contains("bytes of memory"));
    workshop.pack("payload").unwrap();
    workshop.forge(|manifest| manifest.packs[0].memory = 4096, None);
    let error = workshop.unpack_refusal();
    assert!(
        error.contains("damaged") && error.contains(STREAMS[1]),
        "{error}"
    );
}

#[test]
fn what_a_crash_left_is_cleared_away() {
    let workshop = Workshop::packed();
    let leftover = workshop.path("opt/.appliance-tmp-Ab0123456789/bin");
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("etcd"), b"half").unwrap();
    let dir = workshop.unpack().unwrap();
    assert_eq!(
        names(&workshop.path("opt")),
        [dir.file_name().unwrap().to_str().unwrap()]
    );
}

#[test]
fn a_file_that_was_cut_later_is_unpacked_again() {
    let workshop = Workshop::packed();
    let dir = workshop.unpack().unwrap();
    let payload = workshop.payload();
    fs::write(dir.join("bin/etcd"), b"short").unwrap();
    assert!(!is_complete(&workshop.path("opt"), &payload));
    workshop.unpack().unwrap();
    assert!(is_complete(&workshop.path("opt"), &payload));
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let workshop = Workshop::packed();
    let _disk = SmallDisk::at(workshop.path("opt"), "128k");
    let error = workshop.unpack_refusal();
    assert!(
        error.contains("No space left on device") && error.contains("bin/"),
        "{error}"
    );
}

/// Every file is told when it is in its place, and has its content by then; the table of contents is last.
#[test]
fn a_bundle_that_nothing_uses_gets_its_files_one_by_one() {
    let workshop = Workshop::packed();
    let payload = workshop.payload();
    let bundles = workshop.path("opt");
    fs::create_dir_all(&bundles).unwrap();
    let dir = bundles.join(payload.digest().as_str());
    let told = Mutex::new(Vec::new());
    let tell = |path: &str| {
        let is_directory = path == DIRECTORY;
        let components = &payload.manifest().components;
        let component = components.iter().find(|component| component.path == path);
        let found = dir.join(path).metadata().unwrap();
        assert_eq!(found.is_dir(), is_directory, "{path}");
        if let Some(component) = component {
            let content = fs::read(dir.join(path)).unwrap();
            assert_eq!(Sha256::of(&content), component.sha256, "{path}");
        }
        assert!(!is_complete(&bundles, &payload), "{path}");
        told.lock().unwrap().push(path.to_owned());
    };
    let unpacked = unpack_in_place(&payload, &bundles, &Silent, &tell).unwrap();
    assert_eq!(unpacked, dir);
    assert!(is_complete(&bundles, &payload));
    assert_eq!(names(&bundles), [payload.digest().as_str()]);
    let mut told = told.into_inner().unwrap();
    assert_eq!(told.remove(0), DIRECTORY);
    told.sort();
    let components = payload.manifest().components.iter();
    let mut expected: Vec<&str> = components
        .map(|component| component.path.as_str())
        .collect();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

/// What a cut run left has no table of contents: the next run gives it all that is missing. A bundle that was complete is
/// replaced as a whole.
#[test]
fn a_bundle_whose_unpacking_was_cut_is_completed() {
    let workshop = Workshop::packed();
    let payload = workshop.payload();
    let bundles = workshop.path("opt");
    let dir = bundles.join(payload.digest().as_str());
    fs::create_dir_all(dir.join("bin")).unwrap();
    fs::write(dir.join("bin/etcd"), "a part").unwrap();
    let told = Mutex::new(0);
    let tell = |_: &str| *told.lock().unwrap() += 1;
    unpack_in_place(&payload, &bundles, &Silent, &tell).unwrap();
    assert!(is_complete(&bundles, &payload));
    let etcd = workshop.get("components/etcd");
    assert_eq!(fs::read(dir.join("bin/etcd")).unwrap(), etcd);
    let before = *told.lock().unwrap();
    fs::write(dir.join("bin/etcd"), "damaged").unwrap();
    unpack_in_place(&payload, &bundles, &Silent, &tell).unwrap();
    assert_eq!(fs::read(dir.join("bin/etcd")).unwrap(), etcd);
    assert_eq!(*told.lock().unwrap(), before);
}
