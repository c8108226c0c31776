//! The command line of dockerd in its unit: the unit, its drop-ins, its environment.

use std::collections::BTreeMap;

use super::keys::{is_switch, kind_of};

/// What the unit files of a service say about its program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// The command line of the last `ExecStart=`.
    exec_start: String,
    /// The variables of `Environment=`, in order.
    environment: Vec<(String, String)>,
    /// The files of `EnvironmentFile=`, in order, without the `-` before a path.
    pub environment_files: Vec<String>,
}

impl Unit {
    /// From the unit and its drop-ins, in the order in which systemd reads them. An empty assignment clears
    /// those before it.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Unit {
        let mut unit = Unit::default();
        for text in texts {
            let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
            let mut section = "";
            for line in joined.lines().map(str::trim) {
                if line.starts_with('[') {
                    section = line;
                }
                if section == "[Service]" && !line.starts_with(['#', ';']) {
                    unit.take(line);
                }
            }
        }
        unit
    }

    fn take(&mut self, line: &str) {
        let Some((key, value)) = line.split_once('=') else {
            return;
        };
        let value = value.trim();
        match key.trim() {
            "ExecStart" => self.exec_start = value.to_owned(),
            "Environment" if value.is_empty() => self.environment.clear(),
            "Environment" => {
                let words = split(value);
                let pairs = words.iter().filter_map(|word| word.split_once('='));
                self.environment
                    .extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            "EnvironmentFile" if value.is_empty() => self.environment_files.clear(),
            "EnvironmentFile" => self
                .environment_files
                .push(value.trim_start_matches('-').to_owned()),
            _ => {}
        }
    }

    /// The words of the command line, the program first. `files` are the texts of the environment files that
    /// exist, in order.
    pub fn words(&self, files: &[String]) -> Vec<String> {
        let mut variables: BTreeMap<String, String> = self.environment.iter().cloned().collect();
        for text in files {
            variables.extend(assignments(text));
        }
        let line = self
            .exec_start
            .trim_start_matches(['-', '@', ':', '+', '!']);
        let mut words = Vec::new();
        for word in split(line) {
            let name = word.strip_prefix('$').filter(|name| is_name(name));
            match name {
                // A variable alone becomes as many words as it has.
                Some(name) => {
                    let value = variables.get(name).map_or("", String::as_str);
                    words.extend(value.split_whitespace().map(str::to_owned));
                }
                None => words.push(with_values(&word, &variables)),
            }
        }
        words
    }
}

/// Whether the text is the name of a variable.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// The word with the values of `${NAME}`.
fn with_values(word: &str, variables: &BTreeMap<String, String>) -> String {
    let mut result = word.replace("%%", "%");
    for (name, value) in variables {
        result = result.replace(&format!("${{{name}}}"), value);
    }
    result.replace("$$", "$")
}

/// The assignments in an environment file.
fn assignments(text: &str) -> impl Iterator<Item = (String, String)> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with(['#', ';']));
    lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| {
            let inner = value.strip_prefix(*quote)?;
            inner.strip_suffix(*quote)
        });
        let name = name.trim().trim_start_matches("export ").to_owned();
        Some((name, quoted.unwrap_or(value).to_owned()))
    })
}

/// The words of a line, as systemd splits it: by blanks, outside quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The options of dockerd that take no value and are no settings.
const SWITCHES: &[&str] = &["validate", "help", "version", "cri-containerd"];

/// The options of dockerd that have another name in `daemon.json`, or none.
const WITHOUT_KEY: &[&str] = &[
    "config-file",
    "containerd-plugins-namespace",
    "cri-containerd",
    "help",
    "validate",
    "version",
];

/// Short options of dockerd, with the long one.
const SHORT: &[(char, &str)] = &[
    ('b', "bridge"),
    ('D', "debug"),
    ('g', "data-root"),
    ('G', "group"),
    ('H', "host"),
    ('l', "log-level"),
    ('p', "pidfile"),
    ('s', "storage-driver"),
];

/// Options that can be repeated, with the name that they have in `daemon.json`.
const LISTS: &[(&str, &str)] = &[
    ("add-runtime", "runtimes"),
    ("authorization-plugin", "authorization-plugins"),
    ("default-address-pool", "default-address-pools"),
    ("default-ulimit", "default-ulimits"),
    ("dns-opt", "dns-opts"),
    ("exec-opt", "exec-opts"),
    ("host", "hosts"),
    ("insecure-registry", "insecure-registries"),
    ("label", "labels"),
    ("log-opt", "log-opts"),
    ("node-generic-resource", "node-generic-resources"),
    ("registry-mirror", "registry-mirrors"),
    ("storage-opt", "storage-opts"),
];

/// The options of a command line of dockerd, by the names that they have in `daemon.json`, each with its
/// values in order. A switch without a value is `true`.
pub fn options(words: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in read(words).0 {
        let list = LISTS.iter().find(|(flag, _)| *flag == name);
        let key = list.map_or(name, |(_, key)| (*key).to_owned());
        found.entry(key).or_default().push(value);
    }
    found
}

/// The words of a command line of dockerd that are neither its options nor their values. Of another program, such as a
/// shell that starts dockerd, none are known.
pub fn strangers(words: &[String]) -> Vec<String> {
    let program = words.first().and_then(|path| path.rsplit('/').next());
    if !program.is_some_and(|name| name.starts_with("dockerd")) {
        return Vec::new();
    }
    let (options, mut others) = read(words);
    let is_known = |name: &str| {
        let is_list = LISTS.iter().any(|(flag, _)| *flag == name);
        let is_key = kind_of(name).is_some() && !LISTS.iter().any(|(_, key)| *key == name);
        is_list || is_key || WITHOUT_KEY.contains(&name)
    };
    let unknown = options.into_iter().filter(|(name, _)| !is_known(name));
    others.extend(unknown.map(|(name, _)| format!("--{name}")));
    others
}

/// The options with their values, in order, and the other words.
fn read(words: &[String]) -> (Vec<(String, String)>, Vec<String>) {
    let (mut options, mut others) = (Vec::new(), Vec::new());
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        let Some((name, value)) = option(word) else {
            others.push(word.clone());
            continue;
        };
        let is_switch = is_switch(&name) || SWITCHES.contains(&name.as_str());
        let value = match value {
            Some(value) => value,
            None if is_switch => "true".to_owned(),
            None => rest.next().cloned().unwrap_or_default(),
        };
        options.push((name, value));
    }
    (options, others)
}

/// The long name of the option that the word is, and its value if the word has it.
fn option(word: &str) -> Option<(String, Option<String>)> {
    if let Some(long) = word.strip_prefix("--") {
        return Some(match long.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (long.to_owned(), None),
        });
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let letter = letters.next()?;
    let (_, name) = SHORT.iter().find(|(short, _)| *short == letter)?;
    let value = letters.as_str();
    let value = value.strip_prefix('=').unwrap_or(value);
    Some((
        (*name).to_owned(),
        (!value.is_empty()).then(|| value.to_owned()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(unit: &str, files: &[&str]) -> BTreeMap<String, Vec<String>> {
        let files: Vec<String> = files.iter().map(|&text| text.to_owned()).collect();
        options(&Unit::of([unit]).words(&files))
    }

    fn one(options: &BTreeMap<String, Vec<String>>, key: &str) -> String {
        options.get(key).map_or(String::new(), |all| all.join(" "))
    }

    #[test]
    fn options_are_read_in_every_form() {
        let unit = "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --host=tcp://10.0.0.1:2375 \\\n  \
                    -g /srv/docker --live-restore --iptables=false -D \\\n  --log-opt max-size=10m \
                    --exec-opt \"native.cgroupdriver=systemd\" -s=overlay2\n";
        let options = of(unit, &[]);
        for (key, value) in [
            ("hosts", "fd:// tcp://10.0.0.1:2375"),
            ("data-root", "/srv/docker"),
            ("live-restore", "true"),
            ("iptables", "false"),
            ("debug", "true"),
            ("log-opts", "max-size=10m"),
            ("exec-opts", "native.cgroupdriver=systemd"),
            ("storage-driver", "overlay2"),
        ] {
            assert_eq!(one(&options, key), value, "{key}");
        }
    }

    #[test]
    fn every_switch_of_the_file_takes_no_value() {
        let unit =
            "[Service]\nExecStart=/usr/bin/dockerd --allow-direct-routing -H fd:// --validate -D\n";
        let options = of(unit, &[]);
        assert_eq!(one(&options, "allow-direct-routing"), "true");
        assert_eq!(one(&options, "hosts"), "fd://");
        assert_eq!(one(&options, "debug"), "true");
    }

    #[test]
    fn variables_come_from_the_environment_and_its_files() {
        let unit = "[Service]\nEnvironment=\"ROOT=/srv/a b\" OPTS=--icc=false\n\
                    EnvironmentFile=-/etc/default/docker\n\
                    ExecStart=/usr/sbin/dockerd --data-root ${ROOT} $OPTS $DOCKER_OPTS $NONE\n";
        let file = "# DOCKER_OPTS=\"--dns 8.8.8.8\"\nDOCKER_OPTS=\"-H fd:// --bip=10.1.0.1/24\"\n";
        let options = of(unit, &[file]);
        assert_eq!(one(&options, "data-root"), "/srv/a b");
        assert_eq!(one(&options, "icc"), "false");
        assert_eq!(one(&options, "bip"), "10.1.0.1/24");
        assert_eq!(one(&options, "hosts"), "fd://");
        assert!(!options.contains_key("dns"));
        assert_eq!(Unit::of([unit]).environment_files, ["/etc/default/docker"]);
    }

    #[test]
    fn a_drop_in_replaces_the_command_line() {
        let unit = "[Service]\nExecStart=/usr/bin/dockerd -H fd://\nEnvironment=A=--debug\n";
        let drop_in =
            "[Service]\nExecStart=\n# ExecStart=/bin/false\nExecStart=-/usr/bin/dockerd $A\n";
        let words = Unit::of([unit, drop_in]).words(&[]);
        assert_eq!(words, ["/usr/bin/dockerd", "--debug"]);
        let options = options(&words);
        assert!(!options.contains_key("hosts") && options.contains_key("debug"));
    }
}
