//! The verdicts, over facts made by hand.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, FileFact, Program};
use super::rule::{Finding, Flag, Place, Rule};
use super::{CommandLine, Source, Verdict, items, judge};
use crate::nodespec::{Profile, Role};

fn line(words: &str) -> CommandLine {
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    CommandLine::of(&words, Source::Process(1))
}

fn facts(words: &str) -> Facts {
    Facts {
        role: Role::Single,
        profile: Profile::WithCa,
        programs: BTreeMap::from([(Program::ApiServer, line(words))]),
        files: BTreeMap::new(),
        encryption: None,
    }
}

fn file(mode: u32, owner: &str, digest: &str) -> FileFact {
    FileFact {
        mode,
        owner: owner.to_owned(),
        digest: Some(digest.to_owned()),
    }
}

fn flag(name: &'static str, default: Option<&'static str>) -> Flag {
    Flag {
        program: Program::ApiServer,
        name,
        default,
    }
}

fn is_met(rule: Rule, facts: &Facts) -> bool {
    match rule.judge(facts) {
        Finding::Met(_) => true,
        Finding::Unmet(_) => false,
        other => panic!("{rule:?}: {other:?}"),
    }
}

#[test]
fn a_flag_is_judged_by_the_value_that_counts() {
    let plain = |name| flag(name, None);
    let cases = [
        (Rule::Is(plain("--a"), "1"), "x --a=1", "x --a=2"),
        (
            Rule::Is(plain("--a"), "1"),
            "x --a=2 --a=1",
            "x --a=1 --a=2",
        ),
        (Rule::Is(plain("--a"), "1"), "x --a 1", "x"),
        (
            Rule::Is(plain("--a-b"), "true"),
            "x --a_b --c",
            "x --a_b=false",
        ),
        (Rule::Is(flag("--a", Some("1")), "1"), "x", "x --a=2"),
        (Rule::IsNot(plain("--a"), "1"), "x", "x --a=1"),
        (Rule::Unset(plain("--a")), "x --a= --b=--a", "x --a=/file"),
        (Rule::Holds(plain("--a"), "N"), "x --a=M,N", "x --a=NM,MN"),
        (Rule::Lacks(plain("--a"), "N"), "x --a=M", "x --a=M,N"),
        (Rule::Lacks(flag("--a", Some("N")), "N"), "x --a=M", "x"),
        (Rule::AtLeast(plain("--a"), 10), "x --a=10", "x --a=9"),
        (Rule::AtLeast(plain("--a"), 10), "x --a=11", "x --a=many"),
    ];
    for (rule, good, bad) in cases {
        assert!(is_met(rule, &facts(good)), "{rule:?} of {good}");
        assert!(!is_met(rule, &facts(bad)), "{rule:?} of {bad}");
    }
    const BOTH: Rule = Rule::Set(&[
        Flag {
            program: Program::ApiServer,
            name: "--a",
            default: None,
        },
        Flag {
            program: Program::ApiServer,
            name: "--b",
            default: None,
        },
    ]);
    assert!(is_met(BOTH, &facts("x --a=1 --b=2")));
    assert!(!is_met(BOTH, &facts("x --a=1")));
    assert!(is_met(Rule::All(&[BOTH]), &facts("x --a=1 --b=2")));
    assert!(!is_met(Rule::All(&[BOTH]), &facts("x --b=1")));
}

#[test]
fn a_program_that_is_missing_passes_nothing() {
    let mut none = facts("x");
    none.programs.clear();
    for rule in [
        Rule::Unset(flag("--a", None)),
        Rule::IsNot(flag("--a", None), "1"),
        Rule::Lacks(flag("--a", None), "N"),
        Rule::Is(flag("--a", Some("1")), "1"),
    ] {
        assert!(!is_met(rule, &none), "{rule:?}");
    }
}

#[test]
fn files_are_judged_by_mode_owner_and_content() {
    let mut facts = facts("x --f=/etc/one");
    let place = Place::FlagOf(Program::ApiServer, "--f");
    let mode = Rule::Mode(place, 0o644);
    assert_eq!(
        mode.judge(&facts),
        Finding::Absent("/etc/one does not exist".to_owned())
    );
    for (found, met) in [
        (0o644, true),
        (0o600, true),
        (0o664, false),
        (0o4644, false),
    ] {
        let one = file(found, "root:root", "1");
        facts.files.insert("/etc/one".to_owned(), one);
        assert_eq!(is_met(mode, &facts), met, "{found:o}");
    }
    assert!(is_met(Rule::Owner(place, "root:root"), &facts));
    assert!(!is_met(Rule::Owner(place, "etcd:etcd"), &facts));

    let other = Place::At("/etc/two");
    assert!(!is_met(Rule::Apart(place, other), &facts));
    facts
        .files
        .insert("/etc/two".to_owned(), file(0o644, "root:root", "1"));
    assert!(!is_met(Rule::Apart(place, other), &facts));
    facts
        .files
        .insert("/etc/two".to_owned(), file(0o644, "root:root", "2"));
    assert!(is_met(Rule::Apart(place, other), &facts));

    // One wrong file of several is enough, and it is named.
    let within = Rule::Mode(Place::Within("/etc"), 0o644);
    let Finding::Unmet(found) = within.judge(&facts) else {
        panic!("a wide mode passed");
    };
    assert!(
        found.contains("/etc/one") && !found.contains("/etc/two"),
        "{found}"
    );
    assert!(matches!(
        Rule::Mode(Place::Within("/et"), 0o644).judge(&facts),
        Finding::Absent(_)
    ));
}

#[test]
fn secrets_are_encrypted_by_the_first_provider() {
    let mut facts = facts("x");
    assert!(!is_met(Rule::Encrypts("aescbc"), &facts));
    facts.encryption = Some("identity".to_owned());
    assert!(!is_met(Rule::Encrypts("aescbc"), &facts));
    facts.encryption = Some("aescbc".to_owned());
    assert!(is_met(Rule::Encrypts("aescbc"), &facts));
}

fn result(facts: &Facts, number: &str) -> Verdict {
    let judged = judge(facts);
    let one = judged.iter().find(|one| one.item == number);
    one.unwrap_or_else(|| panic!("no item {number}")).result
}

#[test]
fn only_the_difference_that_is_made_on_purpose_is_excused() {
    let ours = facts("x --token-auth-file=/etc/kubernetes/ca/kubernetes/token.csv");
    assert_eq!(result(&ours, "1.1.20"), Verdict::Differs);
    let other = facts("x --token-auth-file=/root/tokens");
    assert_eq!(result(&other, "1.1.20"), Verdict::Fail);
    assert_eq!(result(&facts("x"), "1.1.20"), Verdict::Pass);
}

#[test]
fn items_of_another_role_are_not_applicable() {
    let mut master = facts("x");
    master.role = Role::Master;
    assert_eq!(result(&master, "2.1.5"), Verdict::NotApplicable);
    let mut worker = facts("x");
    worker.role = Role::Worker;
    assert_eq!(result(&worker, "1.1.1"), Verdict::NotApplicable);
    assert_eq!(
        result(&worker, "2.1.5"),
        Verdict::Fail,
        "there is no kubelet"
    );
    assert_eq!(result(&worker, "3.1.1"), Verdict::NotApplicable);
}

#[test]
fn policies_of_pods_are_a_persons_task_once_they_are_on() {
    assert_eq!(
        result(&facts("x --admission-control=ServiceAccount"), "1.7.1"),
        Verdict::Differs
    );
    assert_eq!(
        result(&facts("x --admission-control=PodSecurityPolicy"), "1.7.1"),
        Verdict::Manual
    );
}

#[test]
fn a_unit_is_read_as_systemd_reads_it() {
    let unit = "[Service]\nExecStart=/bin/x \\\n  --a=5%% \\\n  --b=$$HOME \\\n  \"--c=1\"\n";
    let drop_in = "[Service]\nExecStart=\nExecStart=/bin/x --a=2\n";
    let own = CommandLine::of_units("u", [unit]).expect("a command line");
    assert_eq!(own.get("--a"), Some("5%"));
    assert_eq!(own.get("--b"), Some("$HOME"));
    assert_eq!(own.get("--c"), Some("1"));
    let changed = CommandLine::of_units("u", [unit, drop_in]).expect("a command line");
    assert_eq!((changed.get("--a"), changed.get("--b")), (Some("2"), None));
    assert_eq!(CommandLine::of_units("u", ["[Unit]\n"]), None);
}

#[test]
fn the_table_has_every_item_of_the_benchmark_once_and_in_order() {
    let numbers: Vec<&str> = items().map(|item| item.number).collect();
    let unique: BTreeSet<&str> = numbers.iter().copied().collect();
    assert_eq!(unique.len(), numbers.len());
    let last = [
        ("1.1", 37),
        ("1.2", 1),
        ("1.3", 7),
        ("1.4", 18),
        ("1.5", 9),
        ("1.6", 9),
        ("1.7", 7),
        ("2.1", 15),
        ("2.2", 8),
        ("3.1", 19),
        ("3.2", 1),
    ];
    let expected: Vec<String> = last
        .iter()
        .flat_map(|(section, last)| (1..=*last).map(move |n| format!("{section}.{n}")))
        .collect();
    assert_eq!(numbers, expected);
    let of_version_1_2 = numbers
        .iter()
        .filter(|number| !number.starts_with("1.7") && !number.starts_with("3."));
    assert_eq!(of_version_1_2.count(), 104);
}

#[test]
fn requirements_are_one_short_line() {
    for item in items() {
        assert!(item.requires.len() <= 72, "{}", item.number);
        assert!(!item.requires.contains(['\n', '|']), "{}", item.number);
    }
}
