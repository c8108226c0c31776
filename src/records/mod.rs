//! The records that a node keeps on disk, as data. Pure: `observe` reads them, `apply` writes them.

pub mod authorities;
pub mod backup;
pub mod brought;
pub mod cluster;
pub mod expected;
pub mod images;
pub mod machine;
pub mod names;
pub mod nodes;
pub mod restored;
pub mod run;
pub mod state;
pub mod timeline;
pub mod tokens;
pub mod upgrade;
pub mod written;
