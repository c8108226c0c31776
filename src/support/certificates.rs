//! The public part of each certificate, as text.

use std::fmt::Write;

use crate::components::{self, AUTHORITY};
use crate::nodespec::Role;
use crate::paths;
use crate::pki::inspect::{self, fingerprint};
use crate::sys::root::Root;

/// The names, dates and the authority of each certificate below `root`.
pub fn text(root: &Root) -> String {
    let mut text = String::new();
    for name in components::certificate_names(Role::Single) {
        let path = paths::certificate(name);
        let pem = match root.read(&path) {
            Ok(Some(pem)) => pem,
            Ok(None) => continue,
            Err(error) => {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{path}: {error:#}\n");
                continue;
            }
        };
        let above = paths::certificate(components::authority_of(name));
        let authority = root.read(&above).ok().flatten().unwrap_or_default();
        let signed = inspect::is_signed_by(&pem, &authority).unwrap_or(false);
        let _ = match inspect::inspect(&pem) {
            Err(error) => writeln!(text, "{path}: {error:#}\n"),
            Ok(info) => writeln!(
                text,
                "{path}\n  subject: {}\n  names: {}\n  from: {}\n  to: {}\n  signed by {above}: {}\n  public key: {}\n",
                info.subject,
                info.sans().join(", "),
                info.not_before,
                info.not_after,
                if signed || name == AUTHORITY {
                    "yes"
                } else {
                    "no"
                },
                fingerprint(&info)
            ),
        };
    }
    text
}
