//! What is kept on disk and read back, as data. Pure: `observe` reads it, `apply` writes it.

pub mod expected;
pub mod images;
pub mod names;
pub mod nodes;
pub mod state;
pub mod tokens;
