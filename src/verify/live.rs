//! What only a running system has: images in docker, kernel modules and settings, users.

use anyhow::Result;

use super::{Found, Kind, Node, Wrong};
use crate::clients::docker::Docker;
use crate::clients::kernel;
use crate::language::tr;
use crate::observe::images;
use crate::observe::software::docker_of_node;
use crate::observe::{node, records};

/// Compares them.
pub fn compare(node: &Node<'_>, found: &mut Found) -> Result<()> {
    let docker = docker_of_node(node.root).ok().flatten();
    let docker = docker.filter(|docker| docker.is_running(node.runner));
    images(node, docker.as_ref(), found)?;
    let modules = kernel::Modules::of_running(node.root);
    for module in &node.record.modules {
        let is_missing = !modules.is_settled(module);
        let wrong = is_missing.then(|| Wrong::new(tr!("not loaded"), format!("modprobe {module}")));
        found.compared(Kind::Module, module, wrong);
    }
    for (key, value) in &node.record.sysctls {
        found.compared(Kind::Sysctl, key, of_sysctl(key, value));
    }
    let users = node::users(node.root)?;
    for user in &node.record.users {
        let wrong = (!users.contains(user)).then(|| Wrong::installable(tr!("missing")));
        found.compared(Kind::User, user, wrong);
    }
    Ok(())
}

fn of_sysctl(key: &str, value: &str) -> Option<Wrong> {
    let present = kernel::sysctl(key);
    (present.as_deref() != Some(value)).then(|| {
        let present = present.clone().unwrap_or_else(|| tr!("not there"));
        Wrong::new(
            tr!("it is {present}, not {value}", present, value),
            format!("sysctl -w {key}={value}"),
        )
    })
}

/// Docker's identifier of an image is a digest of it.
fn images(node: &Node<'_>, docker: Option<&Docker>, found: &mut Found) -> Result<()> {
    const ENSURE: &str = "appliance images ensure";
    let wanted = records::images(node.root)?;
    let references = wanted.iter().map(|image| image.reference.clone());
    let present = docker
        .map(|docker| images::ids(node.root, node.runner, docker, references))
        .transpose()?;
    for image in wanted {
        let wrong = match present.as_ref().map(|ids| ids.get(&image.reference)) {
            None => Some(Wrong::new(
                tr!("docker does not answer"),
                "systemctl start docker",
            )),
            Some(None) => Some(Wrong::new(tr!("not in docker"), ENSURE)),
            Some(Some(id)) if *id != image.id => Some(Wrong::new(
                tr!("docker has another image of that name"),
                ENSURE,
            )),
            Some(Some(_)) => None,
        };
        found.compared(Kind::Image, &image.reference, wrong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::paths;
    use crate::sys::change::Change;
    use crate::sys::process::{Command, Output, Runner};
    use crate::verify::tests::{root, with_node};

    /// A docker that has one image under two names.
    struct OneImage;

    impl Runner for OneImage {
        fn run(&self, command: &Command) -> Result<Output> {
            let is_there = !command.to_string().ends_with("/gone");
            Ok(Output {
                code: Some(i32::from(!is_there)),
                stdout: "sha256:aa\n".to_owned(),
                stderr: String::new(),
            })
        }
    }

    #[test]
    fn a_removed_image_and_another_one_of_its_name_are_found() {
        let (_dir, root) = root();
        let records = r#"[{"reference": "a/there", "id": "sha256:aa", "tarball": "/a"},
                          {"reference": "a/other", "id": "sha256:bb", "tarball": "/a"},
                          {"reference": "a/gone", "id": "sha256:cc", "tarball": "/a"}]"#;
        root.write(paths::IMAGES, records.as_bytes(), 0o644)
            .unwrap();
        let docker = Docker::new("/usr/bin/docker");
        let found = with_node(&root, &OneImage, |node, found| {
            images(node, Some(&docker), found).unwrap();
        });
        let told: Vec<(&str, &str)> = found
            .differences
            .iter()
            .map(|one| (one.name.as_str(), one.problem.as_str()))
            .collect();
        let expected = [
            ("a/other", "docker has another image of that name"),
            ("a/gone", "not in docker"),
        ];
        assert_eq!((found.checked, told), (3, expected.to_vec()));
        let found = with_node(&root, &OneImage, |node, found| {
            images(node, None, found).unwrap();
        });
        assert_eq!(found.differences[0].problem, "docker does not answer");
    }

    #[test]
    fn a_changed_kernel_setting_is_found_with_the_command_against_it() {
        let kernel = kernel::sysctl("kernel.ostype").unwrap();
        assert!(of_sysctl("kernel.ostype", &kernel).is_none());
        let wrong = of_sysctl("kernel.ostype", "Hurd").unwrap();
        assert_eq!(wrong.problem, format!("it is {kernel}, not Hurd"));
        assert_eq!(wrong.fix, "sysctl -w kernel.ostype=Hurd");
        let wrong = of_sysctl("kernel.none", "1").unwrap();
        assert_eq!(wrong.problem, "it is not there, not 1");
    }
}
