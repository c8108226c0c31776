//! What keeps a node from filling up over the years.

pub mod etcd;
pub mod storage;
