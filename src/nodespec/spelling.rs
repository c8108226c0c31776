//! Suggestions for misspelt names.

use crate::language::tr;

/// How many edits a misspelt key may differ from a known one to get a suggestion.
pub(super) const SUGGESTION_DISTANCE: usize = 2;

/// Adds a suggestion to the parser's error about an unknown setting.
pub(super) fn suggest(complaint: &str) -> String {
    let misspelt = complaint
        .split_once("unknown field `")
        .and_then(|(_, rest)| rest.split_once('`'));
    let suggestion = misspelt.and_then(|(name, rest)| {
        // The parser lists the names that are possible here: `expected one of a, b at line 1`, or
        // the same with quotes.
        let (_, list) = rest.split_once("expected ")?;
        let list = list.split(" at line ").next().unwrap_or_default();
        let list = list.strip_prefix("one of ").unwrap_or(list);
        let possible = list.split(|c: char| !c.is_ascii_alphanumeric());
        let possible = possible.filter(|word| !matches!(*word, "" | "or"));
        let distance =
            |known: &&str| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
        let nearest = possible.min_by_key(distance);
        nearest.filter(|known| distance(known) <= SUGGESTION_DISTANCE)
    });
    match suggestion {
        Some(key) => tr!("{complaint}\ndid you mean `{key}`?", complaint, key),
        None => complaint.to_owned(),
    }
}
