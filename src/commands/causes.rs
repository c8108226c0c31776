//! What an error says, with its causes, and nothing that must not be shown.

use crate::nodespec::Refused;
use crate::nodespec::token;

/// The text without the secrets of join tokens. Every line but the first is indented: hostile text
/// cannot forge a line of its own, such as `error: ...`.
pub(super) fn safe(text: &str) -> String {
    token::redacted(text).trim_end().replace('\n', "\n    ")
}

/// The error with its causes, outermost first. A cause that adds nothing new is left out.
pub fn causes(error: &anyhow::Error) -> String {
    // Each cause as it is, and as it is shown.
    let mut said: Vec<(String, String)> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if said.iter().any(|(outer, _)| ends_with(outer, &text)) {
            continue;
        }
        // A cause that repeats the one before it, and adds something, replaces it.
        while said.last().is_some_and(|(outer, _)| repeats(&text, outer)) {
            said.pop();
        }
        let shown = match cause.downcast_ref::<Refused>() {
            Some(refused) => Refused {
                problems: refused.problems.iter().map(|one| safe(one)).collect(),
            }
            .to_string(),
            None => safe(&text),
        };
        said.push((text, shown));
    }
    let shown: Vec<String> = said.into_iter().map(|(_, shown)| shown).collect();
    shown.join(": ")
}

/// Whether `outer` is `inner`, or already says it as its last cause.
fn ends_with(outer: &str, inner: &str) -> bool {
    let before = outer.strip_suffix(inner);
    before.is_some_and(|before| before.is_empty() || before.ends_with(": "))
}

/// Whether `inner` begins with `outer`, or names the same absolute path as `outer`.
fn repeats(inner: &str, outer: &str) -> bool {
    if let Some(rest) = inner.strip_prefix(outer) {
        return rest.is_empty() || rest.starts_with(": ");
    }
    outer.starts_with('/')
        && inner.match_indices(outer).any(|(start, _)| {
            let rest = &inner[start + outer.len()..];
            inner[..start].ends_with(' ') && (rest.is_empty() || rest.starts_with([':', ' ']))
        })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_cause_adds_something_new() {
        let error = anyhow!("permission denied")
            .context("open /etc/hosts: permission denied")
            .context("read /etc/hosts");
        assert_eq!(
            causes(&error),
            "read /etc/hosts: open /etc/hosts: permission denied"
        );
        let error = anyhow!("open /x: not found")
            .context("/x")
            .context("install");
        assert_eq!(causes(&error), "install: open /x: not found");
        assert_eq!(causes(&anyhow!("alone")), "alone");
        assert_eq!(causes(&anyhow!("b").context("a")), "a: b");
        // A short name that is also a part of another word.
        let error = anyhow!("failed to persist temporary file").context("d");
        assert_eq!(causes(&error), "d: failed to persist temporary file");
        let error = anyhow!("is a file").context("cannot write a file d");
        assert_eq!(causes(&error), "cannot write a file d: is a file");
        let error = anyhow!("file").context("no such file");
        assert_eq!(causes(&error), "no such file: file");
    }

    #[test]
    fn no_cause_can_forge_a_line() {
        let error = anyhow!("x\nerror: fake").context("a");
        assert_eq!(causes(&error), "a: x\n    error: fake");
        let problems = vec!["one\n  - fake".to_owned(), "two".to_owned()];
        let list = "nothing was changed, because:\n  - one\n      - fake\n  - two";
        let error = anyhow::Error::from(Refused { problems });
        assert_eq!(causes(&error), list);
    }
}
