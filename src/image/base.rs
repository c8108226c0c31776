//! Inspects the base of a golden image with `qemu-img`.

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use serde_json::Value;

use crate::language::tr;
use crate::nodespec::Refused;
use crate::sys::process::{Command, Runner};

/// The formats in which distributions publish their images.
const FORMATS: [&str; 2] = ["qcow2", "raw"];

/// The facts from `qemu-img info` and `qemu-img measure`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its format, by its name in `qemu-img`.
    pub format: String,
    /// The size of its disk, in bytes.
    pub size: u64,
    /// The used part of this size, in bytes.
    pub used: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    format: String,
    virtual_size: u64,
    backing_filename: Option<String>,
    #[serde(default)]
    format_specific: Value,
}

#[derive(Deserialize)]
struct Measured {
    required: u64,
}

/// Inspects the image at `path`.
///
/// # Errors
/// A [`Refused`] if it is no image, has another format, is in use, or refers to other files: it
/// could name any file of this machine.
pub fn inspect(runner: &dyn Runner, path: &str) -> Result<Base> {
    let said = runner
        .run(&Command::new("qemu-img", &["info", "--output=json", path]))
        .context(tr!(
            "cannot run qemu-img; install it: `apt-get install qemu-utils`"
        ))?;
    if !said.success() {
        return Err(Refused::because(anyhow!("{}", reason(path, &said.stderr))).into());
    }
    let info: Info = serde_json::from_str(&said.stdout)
        .with_context(|| tr!("`qemu-img info {path}` printed invalid JSON", path))?;
    if let Some(problem) = problem(path, &info) {
        return Err(Refused::because(anyhow!("{problem}")).into());
    }
    let measure = [
        "measure",
        "--output=json",
        "-O",
        "qcow2",
        "-f",
        &info.format,
        path,
    ];
    let said = runner.check(&Command::new("qemu-img", &measure))?;
    let measured: Measured = serde_json::from_str(&said.stdout)
        .with_context(|| tr!("`qemu-img measure {path}` printed invalid JSON", path))?;
    Ok(Base {
        format: info.format,
        size: info.virtual_size,
        used: measured.required,
    })
}

/// Why qemu-img cannot open the image, and what to do.
fn reason(path: &str, said: &str) -> String {
    let said = said.trim();
    if said.contains("lock") {
        return tr!(
            "{path} is in use by another process, which may change it: shut down its VM, or use a \
             copy ({said})",
            path,
            said
        );
    }
    tr!(
        "{path} cannot be read as an image: {said}; use a qcow2 or raw image as `--base`",
        path,
        said
    )
}

fn problem(path: &str, info: &Info) -> Option<String> {
    if !FORMATS.contains(&info.format.as_str()) {
        return Some(tr!(
            "{path} has the format {}; convert it first: `qemu-img convert -O qcow2 {path} \
             base.qcow2`",
            info.format,
            path
        ));
    }
    let data = info.format_specific.pointer("/data/data-file");
    let elsewhere = info
        .backing_filename
        .as_deref()
        .or(data.and_then(Value::as_str))?;
    Some(tr!(
        "{path} has parts of it in another file ({}); make an image without such parts first: \
         `qemu-img convert -O qcow2 {path} base.qcow2`",
        elsewhere.escape_debug(),
        path
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn problem_of(text: &str) -> Option<String> {
        problem("base.img", &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn an_image_that_stands_alone_is_taken() {
        assert_eq!(
            problem_of(r#"{"format": "qcow2", "virtual-size": 1}"#),
            None
        );
        assert_eq!(problem_of(r#"{"format": "raw", "virtual-size": 1}"#), None);
    }

    #[test]
    fn an_image_that_leads_to_other_files_is_refused() {
        let backed = r#"{"format": "qcow2", "virtual-size": 1, "backing-filename": "/etc/shadow"}"#;
        assert!(problem_of(backed).unwrap().contains("/etc/shadow"));
        let data = r#"{"format": "qcow2", "virtual-size": 1,
                       "format-specific": {"type": "qcow2", "data": {"data-file": "/dev/vda"}}}"#;
        assert!(problem_of(data).unwrap().contains("/dev/vda"));
    }

    #[test]
    fn an_image_of_another_format_is_refused() {
        let vmdk = problem_of(r#"{"format": "vmdk", "virtual-size": 1}"#).unwrap();
        assert!(vmdk.contains("qemu-img convert"), "{vmdk}");
    }

    #[test]
    fn an_image_in_use_is_told_from_one_that_cannot_be_read() {
        let locked = "qemu-img: Could not open 'b': Failed to get shared \"write\" lock";
        assert!(reason("b", locked).contains("in use by another process"));
        assert!(reason("b", "No such file").contains("cannot be read"));
    }
}
