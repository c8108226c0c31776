//! Images without docker: those of a registry, those in tarballs for `docker load`, and the files in
//! them. Their configurations and layers are verified by their digests, as docker does.

mod compression;
mod files;
mod layered;
mod layout;
mod legacy;
pub mod reference;
pub mod registry;
pub mod saved;

pub use files::copy_file;
pub use layered::{Layered, MAX_DOCUMENT, write_archive};
