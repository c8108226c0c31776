//! What an item requires, as data: it says what to read, and judges what was read.

use super::facts::{Facts, FileFact, Program};
use crate::paths;

/// A flag of a program: the program, the name with its dashes, and the value without the flag, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub(super) program: Program,
    pub(super) name: &'static str,
    pub(super) default: Option<&'static str>,
}

impl Flag {
    /// The value that counts.
    fn value<'a>(&self, facts: &'a Facts) -> Option<&'a str> {
        facts.flag(self.program, self.name).or(self.default)
    }

    /// The value in words.
    fn said(&self, facts: &Facts) -> String {
        match (facts.flag(self.program, self.name), self.default) {
            (Some(value), _) => format!("{}={value}", self.name),
            (None, Some(default)) => format!("{} is not set: {default}", self.name),
            (None, None) => format!("{} is not set", self.name),
        }
    }

    fn items<'a>(&self, facts: &'a Facts) -> Vec<&'a str> {
        let value = self.value(facts).unwrap_or_default();
        value.split(',').map(str::trim).collect()
    }
}

/// A file or directory.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// At this path.
    At(&'static str),
    /// The unit of a program.
    Unit(Program),
    /// The path that is the value of a flag.
    FlagOf(Program, &'static str),
    /// Every file of this directory.
    Within(&'static str),
}

impl Place {
    /// The place in words.
    fn said(self) -> String {
        match self {
            Place::At(path) => path.to_owned(),
            Place::Unit(program) => unit_path(program),
            Place::FlagOf(program, flag) => format!("file of {flag} ({})", program.name()),
            Place::Within(dir) => format!("files in {dir}"),
        }
    }

    /// The path, if this is one file and known.
    pub fn path(self, facts: &Facts) -> Option<String> {
        match self {
            Place::At(path) => Some(path.to_owned()),
            Place::Unit(program) => Some(unit_path(program)),
            Place::FlagOf(program, flag) => facts.flag(program, flag).map(str::to_owned),
            Place::Within(_) => None,
        }
    }

    /// The files here that exist.
    fn files(self, facts: &Facts) -> Vec<(&str, &FileFact)> {
        let path = self.path(facts);
        let is_here = |file: &str| match self {
            Place::Within(dir) => file
                .strip_prefix(dir)
                .is_some_and(|rest| rest.starts_with('/')),
            _ => path.as_deref() == Some(file),
        };
        let files = facts.files.iter().filter(|(file, _)| is_here(file));
        files.map(|(file, fact)| (file.as_str(), fact)).collect()
    }
}

/// The path of a program's unit.
pub fn unit_path(program: Program) -> String {
    paths::unit(&format!("{}.service", program.name()))
}

/// What an item requires.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// The flag has this value.
    Is(Flag, &'static str),
    /// The flag has another value.
    IsNot(Flag, &'static str),
    /// All these flags have a value.
    Set(&'static [Flag]),
    /// The flag has no value.
    Unset(Flag),
    /// The list in the flag has this item.
    Holds(Flag, &'static str),
    /// The list in the flag does not have this item.
    Lacks(Flag, &'static str),
    /// The number in the flag is not smaller.
    AtLeast(Flag, u64),
    /// The permissions are not wider.
    Mode(Place, u32),
    /// The owner and the group are these.
    Owner(Place, &'static str),
    /// The two files exist and have different content.
    Apart(Place, Place),
    /// The first provider of the encryption of secrets is this.
    Encrypts(&'static str),
    /// All of these hold.
    All(&'static [Rule]),
    /// Only a person can say; the text is what to do.
    Person(&'static str),
    /// There is nothing of this kind in this product; the text says why.
    Never(&'static str),
}

/// Whether a rule is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is; the text is what was found.
    Met(String),
    /// It is not; the text is what was found.
    Unmet(String),
    /// What it concerns does not exist; the text says what.
    Absent(String),
    /// Only a person can say; the text is what to do.
    AskPerson(String),
}

fn finding(met: bool, found: String) -> Finding {
    if met {
        Finding::Met(found)
    } else {
        Finding::Unmet(found)
    }
}

impl Rule {
    /// The program whose flags it needs.
    fn program(&self) -> Option<Program> {
        match self {
            Rule::Is(flag, _)
            | Rule::IsNot(flag, _)
            | Rule::Unset(flag)
            | Rule::Holds(flag, _)
            | Rule::Lacks(flag, _)
            | Rule::AtLeast(flag, _) => Some(flag.program),
            Rule::Set(flags) => flags.first().map(|flag| flag.program),
            Rule::Mode(Place::FlagOf(program, _), _)
            | Rule::Owner(Place::FlagOf(program, _), _)
            | Rule::Apart(Place::FlagOf(program, _), _) => Some(*program),
            Rule::Encrypts(_) => Some(Program::ApiServer),
            _ => None,
        }
    }

    /// The files that it needs.
    pub fn places(&self) -> Vec<Place> {
        match self {
            Rule::Mode(place, _) | Rule::Owner(place, _) => vec![*place],
            Rule::Apart(one, other) => vec![*one, *other],
            Rule::All(rules) => rules.iter().flat_map(Rule::places).collect(),
            _ => vec![],
        }
    }

    /// What is read, in words.
    pub fn reads(&self) -> String {
        let flag = |flag: &Flag| format!("{} {}", flag.program.name(), flag.name);
        match self {
            Rule::Is(one, _)
            | Rule::IsNot(one, _)
            | Rule::Unset(one)
            | Rule::Holds(one, _)
            | Rule::Lacks(one, _)
            | Rule::AtLeast(one, _) => flag(one),
            Rule::Set(flags) => flags.iter().map(flag).collect::<Vec<_>>().join(", "),
            Rule::Mode(place, _) => format!("mode: {}", place.said()),
            Rule::Owner(place, _) => format!("owner: {}", place.said()),
            Rule::Apart(one, other) => format!("{}, {}", one.said(), other.said()),
            Rule::Encrypts(_) => {
                "file of --experimental-encryption-provider-config (kube-apiserver)".to_owned()
            }
            Rule::All(rules) => {
                let mut all: Vec<String> = rules.iter().map(Rule::reads).collect();
                all.dedup();
                all.join(", ")
            }
            Rule::Person(_) | Rule::Never(_) => String::new(),
        }
    }

    /// Whether it is met.
    pub fn judge(&self, facts: &Facts) -> Finding {
        if let Some(program) = self.program()
            && !facts.programs.contains_key(&program)
        {
            return Finding::Unmet(format!("{} has no unit and does not run", program.name()));
        }
        match self {
            Rule::Is(flag, value) => finding(flag.value(facts) == Some(value), flag.said(facts)),
            Rule::IsNot(flag, value) => finding(flag.value(facts) != Some(value), flag.said(facts)),
            Rule::Unset(flag) => finding(flag.value(facts).is_none(), flag.said(facts)),
            Rule::Set(flags) => set(flags, facts),
            Rule::Holds(flag, item) => holds(flag, item, facts, true),
            Rule::Lacks(flag, item) => holds(flag, item, facts, false),
            Rule::AtLeast(flag, least) => {
                let number = flag
                    .value(facts)
                    .and_then(|value| value.parse::<u64>().ok());
                finding(number.is_some_and(|n| n >= *least), flag.said(facts))
            }
            Rule::Mode(place, most) => each(*place, facts, |file| {
                (file.mode & !most == 0, format!("{:04o}", file.mode))
            }),
            Rule::Owner(place, owner) => each(*place, facts, |file| {
                (file.owner == *owner, file.owner.clone())
            }),
            Rule::Apart(one, other) => apart(*one, *other, facts),
            Rule::Encrypts(provider) => match &facts.encryption {
                Some(found) => finding(found == provider, format!("the first provider is {found}")),
                None => Finding::Unmet("secrets are not encrypted".to_owned()),
            },
            Rule::All(rules) => all(rules, facts),
            Rule::Person(task) => Finding::AskPerson((*task).to_owned()),
            Rule::Never(why) => Finding::Absent((*why).to_owned()),
        }
    }
}

/// Whether the list has the item, as `wanted`. It names the item alone, because some lists are long.
fn holds(flag: &Flag, item: &str, facts: &Facts, wanted: bool) -> Finding {
    let has = flag.items(facts).contains(&item);
    let found = match (flag.value(facts), has) {
        (None, _) => flag.said(facts),
        (Some(_), true) => format!("{} has {item}", flag.name),
        (Some(_), false) => format!("{} does not have {item}", flag.name),
    };
    finding(has == wanted, found)
}

fn set(flags: &[Flag], facts: &Facts) -> Finding {
    let said: Vec<String> = flags.iter().map(|flag| flag.said(facts)).collect();
    let met = flags.iter().all(|flag| flag.value(facts).is_some());
    finding(met, said.join(" "))
}

/// Every file of the place has to be right. It names the wrong ones, or else all.
fn each(place: Place, facts: &Facts, judge: impl Fn(&FileFact) -> (bool, String)) -> Finding {
    let files = place.files(facts);
    if files.is_empty() {
        return match place.path(facts) {
            Some(path) => Finding::Absent(format!("{path} does not exist")),
            None => Finding::Absent(format!("{}: there are none", place.said())),
        };
    }
    let judged: Vec<(bool, String)> = files
        .iter()
        .map(|(path, file)| {
            let (met, found) = judge(file);
            (met, format!("{path}: {found}"))
        })
        .collect();
    let met = judged.iter().all(|(met, _)| *met);
    let shown = judged.into_iter().filter(|(one, _)| met || !one);
    let shown: Vec<String> = shown.map(|(_, found)| found).collect();
    finding(met, shown.join(", "))
}

fn apart(one: Place, other: Place, facts: &Facts) -> Finding {
    let digest = |place: Place| {
        let files = place.files(facts);
        files.first().and_then(|(_, file)| file.digest.clone())
    };
    match (digest(one), digest(other)) {
        (Some(first), Some(second)) if first != second => {
            Finding::Met("they are different".to_owned())
        }
        (Some(_), Some(_)) => Finding::Unmet("they are the same".to_owned()),
        (None, _) => Finding::Unmet(format!("there is no {}", one.said())),
        (_, None) => Finding::Unmet(format!("there is no {}", other.said())),
    }
}

fn all(rules: &[Rule], facts: &Facts) -> Finding {
    let mut found = Vec::new();
    for rule in rules {
        match rule.judge(facts) {
            Finding::Met(said) => found.push(said),
            other => return other,
        }
    }
    found.dedup();
    Finding::Met(found.join(" "))
}
