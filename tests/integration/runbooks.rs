//! The runbooks of `docs/operations.md`, executed as they stand there.

use crate::site::Site;
use crate::vms::Bed;

const PAGE: &str = include_str!("../../docs/operations.md");

/// The commands of the runbook with this title, in their order. A command is an indented line.
fn commands(title: &str) -> Vec<&'static str> {
    let mut sections = PAGE.split("\n## ");
    let section = sections
        .find(|section| section.starts_with(&format!("{title}\n")))
        .unwrap_or_else(|| panic!("no runbook {title:?}"));
    let lines = section.lines().filter_map(|line| {
        let command = line.trim_start();
        (line.len() - command.len() >= 4).then_some(command)
    });
    lines.collect()
}

/// Runs every command of these runbooks on the master; each must succeed, some of them after a while.
pub fn work(site: &Site, bed: &mut Bed, titles: &[&str]) {
    for title in titles {
        for command in commands(title) {
            // As in a shell of root's own, in which kubectl finds its kubeconfig.
            let mut said = String::new();
            bed.wait_at(site.master, command, |machine| {
                let run = machine.shell(&format!("export HOME=/root; {command}"));
                run.is_ok_and(|text| {
                    said = text;
                    true
                })
            });
            println!("{title}: {command}\n{said}");
        }
        bed.say(title);
    }
}

#[test]
fn a_runbook_begins_with_what_one_sees_and_ends_with_how_to_know_that_all_is_well() {
    let sections: Vec<&str> = PAGE.split("\n## ").skip(1).collect();
    assert!(sections.len() >= 8, "{sections:?}");
    for section in sections {
        let (title, rest) = section.split_once("\n\n").unwrap();
        assert!(rest.starts_with("You see: "), "{title}");
        let last = rest.rsplit("\n\nAll is well when ").next().unwrap();
        assert!(last.len() < rest.len(), "{title}");
        assert!(commands(title).len() <= 10, "{title}");
    }
}
