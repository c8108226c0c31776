//! Lists that were read lately, kept so that etcd is not asked for each request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Entry;

/// How old a list may be while nobody tells of changes.
const LIFE: Duration = Duration::from_secs(3);

/// The lists, for many threads.
#[derive(Default)]
pub struct Recent(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By the start of their keys.
    lists: HashMap<String, (Instant, Arc<Vec<Entry>>)>,
    /// How many changes there were: what was read before one is not kept after it.
    changes: u64,
    /// Whether every change is told: lists then last until one is.
    watched: bool,
}

impl Recent {
    /// The list of keys that start with `start`, read where none is known.
    ///
    /// # Errors
    /// What `read` fails with.
    pub fn get(
        &self,
        start: &str,
        read: impl FnOnce() -> Result<Vec<Entry>>,
    ) -> Result<Arc<Vec<Entry>>> {
        let changes = {
            let known = self.lock();
            if let Some((read, entries)) = known.lists.get(start)
                && (known.watched || read.elapsed() < LIFE)
            {
                return Ok(entries.clone());
            }
            known.changes
        };
        let now = Instant::now();
        let entries = Arc::new(read()?);
        let mut known = self.lock();
        if known.changes == changes {
            let kept = (now, entries.clone());
            known.lists.insert(start.to_owned(), kept);
        }
        Ok(entries)
    }

    /// Forgets the lists that `key` is on: it was changed.
    pub fn forget(&self, key: &str) {
        let mut known = self.lock();
        known.changes += 1;
        known
            .lists
            .retain(|start, _| !key.starts_with(start.as_str()));
    }

    /// From now on every change is told, or no longer. What was read before is forgotten.
    pub fn set_watched(&self, watched: bool) {
        let mut known = self.lock();
        known.changes += 1;
        known.lists.clear();
        known.watched = watched;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entries(value: &str) -> Result<Vec<Entry>> {
        Ok(vec![Entry {
            value: value.as_bytes().to_vec(),
            revision: 1,
        }])
    }

    fn value(recent: &Recent, now: &str) -> String {
        let list = recent.get("/pods/", || entries(now)).unwrap();
        String::from_utf8(list[0].value.clone()).unwrap()
    }

    #[test]
    fn a_watched_list_lasts_until_one_of_its_keys_changes() {
        let recent = Recent::default();
        recent.set_watched(true);
        assert_eq!(value(&recent, "old"), "old");
        recent.forget("/nodes/a");
        assert_eq!(value(&recent, "new"), "old");
        recent.forget("/pods/a/b");
        assert_eq!(value(&recent, "new"), "new");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let recent = Recent::default();
        recent.set_watched(true);
        let overtaken = recent.get("/pods/", || {
            recent.forget("/pods/a/b");
            entries("old")
        });
        overtaken.unwrap();
        assert_eq!(value(&recent, "new"), "new");
    }

    #[test]
    fn nothing_read_before_the_watch_is_kept_under_it() {
        let recent = Recent::default();
        assert_eq!(value(&recent, "old"), "old");
        recent.set_watched(true);
        assert_eq!(value(&recent, "new"), "new");
    }
}
