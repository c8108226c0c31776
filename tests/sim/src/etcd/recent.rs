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
    lists: HashMap<String, List>,
    /// Whether every change is told: lists then last until one is.
    watched: bool,
}

#[derive(Default)]
struct List {
    kept: Option<(Instant, Arc<Vec<Entry>>)>,
    /// How often it was changed: what was read before a change is not kept after it.
    changes: u64,
    /// Whoever reads it holds this: the others wait for what is read.
    reading: Arc<Mutex<()>>,
}

impl List {
    fn forget(&mut self) {
        self.changes += 1;
        self.kept = None;
    }
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
        let reading = self.lock().list(start).reading.clone();
        let _reading = lock(&reading);
        let changes = {
            let mut known = self.lock();
            let watched = known.watched;
            let list = known.list(start);
            if let Some((read, entries)) = &list.kept
                && (watched || read.elapsed() < LIFE)
            {
                return Ok(entries.clone());
            }
            list.changes
        };
        let now = Instant::now();
        let entries = Arc::new(read()?);
        let mut known = self.lock();
        let list = known.list(start);
        if list.changes == changes {
            list.kept = Some((now, entries.clone()));
        }
        Ok(entries)
    }

    /// Forgets the lists that `key` is on: it was changed.
    pub fn forget(&self, key: &str) {
        let mut known = self.lock();
        let lists = known.lists.iter_mut();
        lists
            .filter(|(start, _)| key.starts_with(start.as_str()))
            .for_each(|(_, list)| list.forget());
    }

    /// From now on every change is told, or no longer. What was read before is forgotten.
    pub fn set_watched(&self, watched: bool) {
        let mut known = self.lock();
        known.lists.values_mut().for_each(List::forget);
        known.watched = watched;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.0)
    }
}

impl Known {
    fn list(&mut self, start: &str) -> &mut List {
        self.lists.entry(start.to_owned()).or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_change_elsewhere_while_a_list_is_read_does_not_matter() {
        let recent = Recent::default();
        recent.set_watched(true);
        let read = recent.get("/pods/", || {
            recent.forget("/nodes/a");
            entries("read")
        });
        read.unwrap();
        assert_eq!(value(&recent, "read again"), "read");
    }

    #[test]
    fn nothing_read_before_the_watch_is_kept_under_it() {
        let recent = Recent::default();
        assert_eq!(value(&recent, "old"), "old");
        recent.set_watched(true);
        assert_eq!(value(&recent, "new"), "new");
    }
}
