//! The runbooks of `docs/operations.md`, executed as they stand there.

use crate::site::Site;
use crate::vms::Bed;

const PAGE: &str = include_str!("../../docs/operations.md");

/// The commands of the runbook with this title, in their order, each with where it runs: the words of the last paragraph
/// before it that begins with `On`, without what follows the first comma. A command is an indented line.
fn commands(title: &str) -> Vec<(&'static str, &'static str)> {
    let mut sections = PAGE.split("\n## ");
    let section = sections
        .find(|section| section.starts_with(&format!("{title}\n")))
        .unwrap_or_else(|| panic!("no runbook {title:?}"));
    let (mut place, mut all) = ("a master", Vec::new());
    for line in section.lines() {
        let command = line.trim_start();
        if line.len() - command.len() >= 4 {
            all.push((place, command));
        } else if let Some(rest) = line.strip_prefix("On ") {
            place = rest.split([',', ':']).next().unwrap_or_default();
        } else if line.starts_with("All is well") {
            place = "a master";
        }
    }
    all
}

/// Runs every command of these runbooks on the master; each must succeed, some of them after a while.
pub fn work(site: &Site, bed: &mut Bed, titles: &[&str]) {
    for title in titles {
        carry_out(bed, title, &[("a master", &[site.master])], &[]);
    }
}

/// Runs the commands of a runbook on the machines of each place, with these variables of the shell. What runs at a place
/// without machines is left out. The commands of one place run on one machine after the other.
pub fn carry_out(
    bed: &mut Bed,
    title: &str,
    places: &[(&str, &[&str])],
    variables: &[(&str, &str)],
) {
    let commands = commands(title);
    for part in commands.chunk_by(|(one, _), (other, _)| one == other) {
        let (place, _) = part[0];
        let found = places.iter().find(|(known, _)| *known == place);
        for machine in found.iter().flat_map(|(_, machines)| *machines) {
            for (_, command) in part {
                run(bed, title, (machine, command), variables);
            }
        }
    }
    bed.say(title);
}

fn run(bed: &mut Bed, title: &str, (machine, command): (&str, &str), variables: &[(&str, &str)]) {
    // As in a shell of root's own, in which kubectl finds its kubeconfig.
    let mut script = "export HOME=/root".to_owned();
    for (name, value) in variables {
        script += &format!("; export {name}='{value}'");
    }
    let mut said = String::new();
    bed.wait_at(machine, command, |machine| {
        let run = machine.shell(&format!("{script}; {command}"));
        run.is_ok_and(|text| {
            said = text;
            true
        })
    });
    println!("{title}: {machine}: {command}\n{said}");
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

#[test]
fn a_command_runs_where_the_text_before_it_says() {
    let places =
        |title: &str| -> Vec<&str> { commands(title).iter().map(|(place, _)| *place).collect() };
    assert_eq!(places("A setting is changed"), ["a master"; 4]);
    let removed = ["the worker", "a master", "a master"];
    assert_eq!(places("A worker is removed"), removed);
    let mut to_three = places("From one master to three");
    to_three.dedup();
    let expected = [
        "the present master",
        "each new master",
        "each worker",
        "a master",
    ];
    assert_eq!(to_three, expected);
}
