//! What keeps a node from filling up over the years.

pub mod etcd;
pub mod storage;

/// A size for people.
pub fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        small if small < 10 * 1024 => format!("{small} MiB"),
        large => format!("{} GiB", large >> 10),
    }
}
