//! Golden images: prepared, checked, built offline, made by Packer, and booted.

mod attach;
pub mod bed;
mod build;
mod faults;
mod packer;
mod prepare;
mod vm;
