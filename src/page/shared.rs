//! One reading for all views. However many ask, the node is asked once at a time, and not more often than every few
//! seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// For how long a reading is new, from its end on.
const FRESH: Duration = Duration::from_secs(4);
/// How long a view waits for a new reading, before it gets the one before.
const WAIT: Duration = Duration::from_secs(10);
/// A reading that is older is shown to nobody.
const OLD: Duration = Duration::from_secs(60);

/// A reading that is shared. `T` is what comes of it.
pub struct Shared<T> {
    read: Arc<dyn Fn() -> T + Send + Sync>,
    last: watch::Sender<Option<(Instant, Arc<T>)>>,
    reads: Arc<AtomicBool>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// What `read` gives. It may take long, and is called in a thread of its own.
    pub fn new(read: impl Fn() -> T + Send + Sync + 'static) -> Arc<Shared<T>> {
        Arc::new(Shared {
            read: Arc::new(read),
            last: watch::Sender::new(None),
            reads: Arc::default(),
        })
    }

    /// A reading that is a few seconds old at most. If a new one takes too long, the one before; `None` if there is none,
    /// or if it is too old.
    pub async fn get(self: &Arc<Self>) -> Option<Arc<T>> {
        let mut changes = self.last.subscribe();
        if let Some(last) = self.within(FRESH) {
            return Some(last);
        }
        self.begin();
        // It fails only if the sender is gone, which this struct owns.
        let _ = timeout(WAIT, changes.changed()).await;
        self.within(OLD)
    }

    fn within(&self, age: Duration) -> Option<Arc<T>> {
        let last = self.last.borrow();
        let last = last.as_ref().filter(|(ended, _)| ended.elapsed() < age);
        last.map(|(_, reading)| reading.clone())
    }

    /// Begins a reading, unless one is under way.
    fn begin(self: &Arc<Self>) {
        if self.reads.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.within(FRESH).is_some() {
            // One has ended in the meantime.
            self.reads.store(false, Ordering::Release);
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            let read = shared.read.clone();
            match spawn_blocking(move || read()).await {
                Ok(reading) => drop(
                    shared
                        .last
                        .send_replace(Some((Instant::now(), Arc::new(reading)))),
                ),
                Err(error) => log::error!("cannot ask the node: {error}"),
            }
            shared.reads.store(false, Ordering::Release);
        });
    }
}
