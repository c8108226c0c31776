//! Lists that were read recently, cached so that not every request needs etcd.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Entry;

/// The maximum age of a list while nothing reports changes.
const LIFE: Duration = Duration::from_secs(3);

/// The lists, for several threads.
#[derive(Default)]
pub struct Recent(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By the prefix of their keys.
    lists: HashMap<String, List>,
    /// Whether every change is reported: lists then stay until a change.
    watched: bool,
}

#[derive(Default)]
struct List {
    kept: Option<(Instant, Arc<Vec<Entry>>)>,
    /// The number of changes: a list that was read before a change is not cached after it.
    changes: u64,
    /// Held while a list is read: other threads wait for the result.
    reading: Arc<Mutex<()>>,
}

impl List {
    fn forget(&mut self) {
        self.changes += 1;
        self.kept = None;
    }
}

impl Recent {
    /// The list of keys that start with `start`; read with `read` if it is not cached.
    ///
    /// # Errors The error of `read`.
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

    /// Drops the lists that contain `key`, because it was changed.
    pub fn forget(&self, key: &str) {
        let mut known = self.lock();
        let lists = known.lists.iter_mut();
        lists
            .filter(|(start, _)| key.starts_with(start.as_str()))
            .for_each(|(_, list)| list.forget());
    }

    /// Whether every change is reported from now on. Drops all lists that were read before.
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
