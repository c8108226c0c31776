//! The names that files of a bundle may have. Pure.

use std::path::{Component, Path};

use anyhow::{Result, ensure};

/// The directories a component may be unpacked to.
const PLACES: [&str; 4] = ["bin/", "cni/bin/", "docker/", "images/"];

/// Refuses a path that leads outside the bundle's directory or is not in one of its known parts.
pub fn check_path(path: &str) -> Result<()> {
    let normal = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let canonical = !path.ends_with('/') && !path.contains("//") && !path.contains("/./");
    ensure!(
        normal && canonical && !path.contains(char::is_control),
        "path {path:?} leads outside the bundle"
    );
    let inside = |place: &str| path.strip_prefix(place).is_some_and(is_file_name);
    ensure!(
        PLACES.iter().any(|place| inside(place)),
        "path {path:?} is not a file in {}",
        PLACES.join(", ")
    );
    Ok(())
}

/// Whether the text is a plain file name, without any directory.
pub fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains('/')
        && !name.contains(char::is_control)
}
