//! Golden images: prepared, checked, built offline, made by Packer, and booted.

mod attach;
mod bed;
mod build;
mod faults;
mod packer;
mod prepare;
mod vm;
