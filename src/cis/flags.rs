//! The flags of a program, from the command line of its process or of its unit.

use std::collections::BTreeMap;

/// Where a command line was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The running process with this ID.
    Process(u32),
    /// The unit, because the program does not run.
    Unit(String),
}

/// The flags of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Where it was read.
    pub source: Source,
    flags: BTreeMap<String, String>,
}

impl CommandLine {
    /// From the words of a command line; the first is the program. As in the programs, the last of several
    /// equal flags counts, `_` is the same as `-` in a name, and a flag without a value is `true`.
    pub fn of(words: &[String], source: Source) -> CommandLine {
        let mut flags = BTreeMap::new();
        let mut rest = words.iter().skip(1).peekable();
        while let Some(word) = rest.next() {
            // Values are kept as they are, so they are not looked at as flags.
            let Some(flag) = word.strip_prefix('-') else {
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => match rest.next_if(|next| !next.starts_with('-')) {
                    Some(value) => (flag, value.clone()),
                    None => (flag, "true".to_owned()),
                },
            };
            flags.insert(name.replace('_', "-"), value);
        }
        CommandLine { source, flags }
    }

    /// The command line in the last `ExecStart=` of unit files that override each other, in this order.
    pub fn of_units<'a>(
        path: &str,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Option<CommandLine> {
        let lines = texts.into_iter().filter_map(exec_start);
        let line = lines.last()?;
        let words: Vec<String> = line.split_whitespace().map(unescaped).collect();
        Some(CommandLine::of(&words, Source::Unit(path.to_owned())))
    }

    /// The value of the flag `name`, without dashes; `None` if it is missing or empty, which is the same to
    /// these programs.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.flags.get(name.trim_start_matches('-'))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }
}

/// The last command line of one unit file; an empty one only clears those before it.
fn exec_start(text: &str) -> Option<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStart="));
    let mut filled = lines.filter(|line| !line.trim().is_empty());
    filled.next_back().map(str::to_owned)
}

/// The word as systemd passes it on, without the quotes around a whole word.
fn unescaped(word: &str) -> String {
    let quoted = word.len() > 1 && word.starts_with('"') && word.ends_with('"');
    let word = if quoted {
        &word[1..word.len() - 1]
    } else {
        word
    };
    word.replace("%%", "%").replace("$$", "$")
}
