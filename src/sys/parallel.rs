//! Does the same work on many items at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Does `work` on every item, on up to `threads` threads with this one, and returns the results in the
/// items' order.
pub fn map<I: Sync, T: Send>(items: &[I], threads: usize, work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match items.get(index) {
                Some(item) => done.push((index, work(item))),
                None => return done,
            }
        }
    };
    let mut results: Vec<(usize, T)> = thread::scope(|scope| {
        let more = threads.min(items.len()).saturating_sub(1);
        // If the system gives no more threads, fewer do the work.
        let workers: Vec<_> = (0..more)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, take).ok())
            .collect();
        let own = take();
        let join = |worker: thread::ScopedJoinHandle<'_, Vec<(usize, T)>>| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        own.into_iter()
            .chain(workers.into_iter().flat_map(join))
            .collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What `work` returns; `None` if that takes longer than `limit`. Then nobody waits for it any more: its thread ends with
/// the program.
pub fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || drop(sender.send(work())));
    // Without a thread, the sender is gone, and there is nothing to wait for.
    drop(thread);
    receiver.recv_timeout(limit).ok()
}

/// How many threads the machine can run at once.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::{map, within};

    #[test]
    fn nobody_waits_for_what_hangs() {
        let hangs = || -> u8 {
            loop {
                thread::park();
            }
        };
        assert_eq!(within(Duration::from_millis(10), hangs), None);
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
    }

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            let doubled = map(&items, threads, |item| item * 2);
            assert!(
                doubled
                    .iter()
                    .zip(&items)
                    .all(|(result, item)| *result == item * 2)
            );
            assert_eq!(doubled.len(), 100);
        }
        assert!(map(&[], 4, |item: &u8| *item).is_empty());
    }
}
