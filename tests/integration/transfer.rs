//! Over the air gap: exported files are imported, and nothing else.

use std::fs;

use appliance::digest::Sha256;

use crate::harness::{program, tarball};
use crate::workshop::{PACK, Workshop, gzip, names};

const URL: &str = "https://example.org/etcd.tar.gz";

/// A workshop whose cache has all files that the bundle needs, and one more.
fn connected() -> Workshop {
    let workshop = disconnected();
    let archive = gzip(&tarball(&[("etcd-v3/etcd", &program("etcd", 50_000))]));
    let lock = format!(
        "[[artifact]]\nurl = \"{URL}\"\nsha256 = \"{}\"\n",
        Sha256::of(&archive)
    );
    workshop.put("definition/bundle.lock", lock.as_bytes());
    fs::create_dir_all(workshop.path("cache/blobs/sha256")).unwrap();
    for blob in [archive.as_slice(), b"of another bundle"] {
        workshop.put(&format!("cache/blobs/sha256/{}", Sha256::of(blob)), blob);
    }
    workshop
}

fn disconnected() -> Workshop {
    let workshop = Workshop::new();
    let definition = String::from_utf8(workshop.get("definition/bundle.toml")).unwrap();
    let only_etcd = definition
        .split("\n[[component]]\nname = \"kubectl\"")
        .next()
        .unwrap();
    workshop.put("definition/bundle.toml", only_etcd.as_bytes());
    workshop
}

fn blobs(workshop: &Workshop) -> Vec<String> {
    let dir = workshop.path("cache/blobs/sha256");
    if dir.exists() {
        names(&dir)
    } else {
        Vec::new()
    }
}

#[test]
fn a_carried_cache_packs_to_the_same_payload() {
    let here = connected();
    here.succeed(&["bundle", "export", "--output", "@all.tar"]);
    here.succeed(&["bundle", "export", "--output", "@again.tar"]);
    assert_eq!(here.get("all.tar"), here.get("again.tar"));
    here.succeed(&PACK);

    let there = disconnected();
    there.put(
        "definition/bundle.lock",
        &here.get("definition/bundle.lock"),
    );
    there.put("carried.tar", &here.get("all.tar"));
    let said = there.succeed(&["bundle", "import", "@carried.tar"]);
    assert!(said.contains("added 2 new files to the cache"), "{said}");
    assert_eq!(blobs(&there), blobs(&here));
    let said = there.succeed(&["bundle", "import", "@carried.tar"]);
    assert!(said.contains("added 0 new files to the cache"), "{said}");
    there.succeed(&PACK);
    assert_eq!(there.get("payload"), here.get("payload"));
}

#[test]
fn a_bundles_part_of_the_cache_is_exported_alone() {
    let here = connected();
    let said = here.succeed(&[
        "bundle",
        "export",
        "--bundle",
        "@definition",
        "--output",
        "@one.tar",
    ]);
    assert!(said.contains("1 files of the cache"), "{said}");
    fs::remove_dir_all(here.path("cache/blobs")).unwrap();
    let said = here.fail(&[
        "bundle",
        "export",
        "--bundle",
        "@definition",
        "--output",
        "@two.tar",
    ]);
    assert!(
        said.contains(URL) && said.contains("bundle fetch"),
        "{said}"
    );
    assert!(!here.path("two.tar").exists());
}

#[test]
fn a_file_that_rotted_in_the_cache_is_not_exported() {
    let here = connected();
    let name = blobs(&here).remove(0);
    here.put(&format!("cache/blobs/sha256/{name}"), b"rotten");
    let said = here.fail(&["bundle", "export", "--output", "@all.tar"]);
    assert!(
        said.contains(&name) && said.contains("is damaged"),
        "{said}"
    );
    assert!(!here.path("all.tar").exists());
}

#[test]
fn an_import_takes_all_or_nothing() {
    let good = (
        format!("blobs/sha256/{}", Sha256::of(b"good")),
        b"good".as_slice(),
    );
    let wrong = format!("blobs/sha256/{}", Sha256::of(b"other"));
    let link = |path: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive
            .append_link(&mut header, path, "/etc/passwd")
            .unwrap();
        archive.into_inner().unwrap()
    };
    let whole = tarball(&[(&good.0, good.1)]);
    let cases: [(&str, Vec<u8>); 8] = [
        (
            "its digest is",
            tarball(&[(&good.0, good.1), (&wrong, b"changed")]),
        ),
        (
            "which `appliance bundle export` does not write",
            tarball(&[(&good.0, good.1), ("etc/passwd", b"x")]),
        ),
        (
            "is not a sha256",
            tarball(&[(&good.0, good.1), ("blobs/sha256/abc", b"x")]),
        ),
        (
            "which `appliance bundle export` does not write",
            link(&good.0),
        ),
        (
            " twice; export it again",
            tarball(&[(&good.0, good.1), (&good.0, good.1)]),
        ),
        ("carried.tar", whole[..whole.len() - 1200].to_vec()),
        ("carried.tar", b"not a tar".repeat(100)),
        ("it holds no files", tarball(&[])),
    ];
    for (expected, content) in cases {
        let there = disconnected();
        there.put("carried.tar", &content);
        let said = there.fail(&["bundle", "import", "@carried.tar"]);
        assert!(
            said.contains(expected) && said.contains("carried.tar"),
            "{expected}: {said}"
        );
        assert_eq!(blobs(&there), Vec::<String>::new(), "{expected}");
        let left = names(&there.path("cache"));
        assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
    }
}
