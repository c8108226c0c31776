//! Raises the revision of etcd's data of API v3, in its file (bbolt).
//!
//! A restored etcd would count its changes again from that of the backup. Kubelets and other clients go on with the
//! higher revisions that they have seen, and would see no change until etcd has caught up: so the revision is raised above
//! every one that the lost etcd can have had. etcd itself takes its revision from its newest key. This changes the
//! revision in the name and in the value of that key, without changing the size of either. `etcdutl snapshot restore
//! --bump-revision` of etcd 3.6 does the same; etcd 3.1 to 3.5 have nothing like it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The key that is the newest one when [`raise`] is called.
pub const MARK: &str = "/appliance/restored";
/// Bytes of a page's header (bbolt, `page.go`).
const HEADER: u64 = 16;
/// Bytes of the description of an element of a page.
const ELEMENT: u64 = 16;
/// The kinds of pages.
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// An element of a leaf that is a bucket.
const BUCKET: u32 = 0x01;
/// The mark of a file of bbolt, and the version of its format.
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of a meta page's content before its checksum.
const META: usize = 56;
/// The bucket in which etcd keeps its keys by revision.
const KEYS: &[u8] = b"key";
/// Bytes of such a name: the revision, `_`, and the number of the change in it.
const NAME: usize = 17;
/// The deepest tree that is followed: 4 levels hold 8 GiB.
const DEEPEST: usize = 32;

/// A page, or a bucket inside an element.
#[derive(Clone, Copy)]
struct Page {
    at: u64,
    kind: u16,
    count: u64,
}

/// An element of a page.
struct Element {
    flags: u32,
    key_at: u64,
    key_size: u32,
    value_size: u32,
    child: u64,
}

impl Element {
    fn value_at(&self) -> u64 {
        self.key_at + u64::from(self.key_size)
    }
}

struct Bolt {
    file: File,
    page_size: u64,
    root: u64,
}

/// Raises the revision in the file at `path` to `revision`, which is higher. Nobody has the file open. Its newest key is
/// [`MARK`], in a change of its own.
///
/// # Errors
/// If the file is not as etcd writes it. Then nothing was changed.
pub fn raise(path: &Path, revision: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let bolt = Bolt::open(file).with_context(|| path.display().to_string())?;
    bolt.raise(revision)
        .with_context(|| path.display().to_string())
}

impl Bolt {
    fn open(file: File) -> Result<Bolt> {
        let mut first = [0; 4096];
        file.read_exact_at(&mut first, 0)?;
        let size = u64::from(number::<4>(&first, HEADER as usize + 8));
        ensure!(
            (1024..=1 << 20).contains(&size) && size.is_power_of_two(),
            "it is no file of bbolt"
        );
        let mut newest: Option<(u64, u64)> = None;
        for page in [0, size] {
            let mut meta = [0; META + 8];
            file.read_exact_at(&mut meta, page + HEADER)?;
            let is_valid = number::<4>(&meta, 0) == MAGIC
                && number::<4>(&meta, 4) == VERSION
                && fnv(&meta[..META]) == long(&meta, META);
            let (root, transaction) = (long(&meta, 16), long(&meta, 48));
            if is_valid && newest.is_none_or(|(_, other)| transaction > other) {
                newest = Some((root, transaction));
            }
        }
        let (root, _) = newest.context("it has no valid meta page")?;
        Ok(Bolt {
            file,
            page_size: size,
            root,
        })
    }

    fn raise(&self, revision: u64) -> Result<()> {
        let mut branches = Vec::new();
        let leaf = self.last_leaf(self.keys()?, &mut branches)?;
        ensure!(leaf.count > 0, "it has no keys");
        let element = self.element(leaf, leaf.count - 1)?;
        ensure!(
            element.key_size as usize == NAME,
            "its newest key was removed"
        );
        let name = self.bytes(element.key_at, NAME)?;
        let current = name_revision(&name)?;
        ensure!(
            revision > current,
            "its revision is {current}, and must be raised to more than that"
        );
        let value = self.bytes(element.value_at(), element.value_size as usize)?;
        let value = with_revision(&value, current, revision)?;
        let new = [&revision.to_be_bytes()[..], &name[8..]].concat();

        // The name may stand in the pages above, too: each has that of its first key.
        let mut places = vec![element.key_at];
        for branch in branches {
            let last = self.element(branch, branch.count - 1)?;
            if last.key_size as usize == NAME && self.bytes(last.key_at, NAME)? == name {
                places.push(last.key_at);
            }
        }
        self.file.write_all_at(&value, element.value_at())?;
        for place in places {
            self.file.write_all_at(&new, place)?;
        }
        Ok(self.file.sync_all()?)
    }

    /// The bucket of etcd's keys.
    fn keys(&self) -> Result<Page> {
        let mut page = self.page(self.root)?;
        for _ in 0..DEEPEST {
            let mut next = None;
            for index in 0..page.count {
                let element = self.element(page, index)?;
                let key = self.bytes(element.key_at, element.key_size as usize)?;
                if page.kind == LEAF && key == KEYS && element.flags & BUCKET != 0 {
                    return self.bucket(&element);
                }
                if page.kind == BRANCH && key[..] <= *KEYS {
                    next = Some(element.child);
                }
            }
            page = self.page(next.context("it has no keys of etcd")?)?;
        }
        bail!("its tree is too deep")
    }

    fn bucket(&self, element: &Element) -> Result<Page> {
        let header = self.bytes(element.value_at(), 16)?;
        match long(&header, 0) {
            // A small one is inside the element.
            0 => self.page_at(element.value_at() + 16),
            root => self.page(root),
        }
    }

    /// The page with the newest keys. `branches` gets those above it.
    fn last_leaf(&self, page: Page, branches: &mut Vec<Page>) -> Result<Page> {
        let mut page = page;
        for _ in 0..DEEPEST {
            if page.kind == LEAF {
                return Ok(page);
            }
            ensure!(page.count > 0, "a page is empty");
            branches.push(page);
            page = self.page(self.element(page, page.count - 1)?.child)?;
        }
        bail!("its tree is too deep")
    }

    fn page(&self, number: u64) -> Result<Page> {
        let at = number.checked_mul(self.page_size);
        self.page_at(at.context("a page is outside of the file")?)
    }

    fn page_at(&self, at: u64) -> Result<Page> {
        let header = self.bytes(at, HEADER as usize)?;
        let kind = u16::from_le_bytes([header[8], header[9]]);
        let count = u64::from(u16::from_le_bytes([header[10], header[11]]));
        ensure!(
            matches!(kind, BRANCH | LEAF),
            "a page is neither a branch nor a leaf"
        );
        Ok(Page { at, kind, count })
    }

    fn element(&self, page: Page, index: u64) -> Result<Element> {
        let at = page.at + HEADER + index * ELEMENT;
        let bytes = self.bytes(at, ELEMENT as usize)?;
        let field = |place: usize| number::<4>(&bytes, place);
        Ok(match page.kind {
            LEAF => Element {
                flags: field(0),
                key_at: at + u64::from(field(4)),
                key_size: field(8),
                value_size: field(12),
                child: 0,
            },
            _ => Element {
                flags: 0,
                key_at: at + u64::from(field(0)),
                key_size: field(4),
                value_size: 0,
                child: long(&bytes, 8),
            },
        })
    }

    fn bytes(&self, at: u64, size: usize) -> Result<Vec<u8>> {
        // A key has at most 32 KiB; no value that is read here is longer.
        ensure!(size <= 64 * 1024, "an element is too long");
        let mut bytes = vec![0; size];
        self.file
            .read_exact_at(&mut bytes, at)
            .context("a page is outside of the file")?;
        Ok(bytes)
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + N]
        .iter()
        .rev()
        .fold(0, |all, byte| all << 8 | u32::from(*byte))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8]
        .iter()
        .rev()
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn name_revision(name: &[u8]) -> Result<u64> {
    let (main, rest) = name.split_at(8);
    ensure!(
        rest[0] == b'_' && rest[1..].iter().all(|byte| *byte == 0),
        "its newest change has other keys, too"
    );
    Ok(u64::from_be_bytes(main.try_into()?))
}

/// The value (`mvccpb.KeyValue`) with another revision and the same size: the text of the key loses what the longer number
/// needs.
fn with_revision(value: &[u8], current: u64, revision: u64) -> Result<Vec<u8>> {
    let fields = super::proto::fields(value)?;
    let bytes = |number: u64| fields.iter().find(|field| field.number == number);
    let text_of = |number| {
        bytes(number)
            .and_then(|field| field.bytes)
            .unwrap_or_default()
    };
    let number_of = |number| bytes(number).map_or(0, |field| field.varint);
    let (key, created, changed, version, text) = (
        text_of(1),
        number_of(2),
        number_of(3),
        number_of(4),
        text_of(5),
    );
    ensure!(
        key == MARK.as_bytes() && changed == current,
        "its newest key is not the mark of this restoration"
    );
    let created = if created == current {
        revision
    } else {
        created
    };
    let encoded = |text: &[u8]| {
        let mut all = Vec::new();
        super::proto::put_bytes(&mut all, 1, key);
        super::proto::put_varint(&mut all, 2, created);
        super::proto::put_varint(&mut all, 3, revision);
        super::proto::put_varint(&mut all, 4, version);
        super::proto::put_bytes(&mut all, 5, text);
        all
    };
    let longer = encoded(text).len().checked_sub(value.len());
    let shorter = longer.and_then(|longer| text.len().checked_sub(longer));
    let shorter = shorter.context("the mark has no room for the revision")?;
    let new = encoded(&text[..shorter]);
    ensure!(new.len() == value.len(), "the mark has another form");
    Ok(new)
}
