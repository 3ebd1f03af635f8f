//! Runs work that may panic or hang.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static QUIET: RefCell<bool> = const { RefCell::new(false) };
}

/// Keeps the message and place of a panic instead of printing it, on threads that run guarded work.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.with(|q| *q.borrow()) {
                PANIC.with(|p| *p.borrow_mut() = Some(info.to_string().replace('\n', " ")));
            } else {
                usual(info);
            }
        }));
    });
}

/// Runs `work` here; a panic becomes an error that says where it happened.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    install_hook();
    let before = QUIET.with(|q| q.replace(true));
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.with(|q| *q.borrow_mut() = before);
    result.map_err(|_| PANIC.with(|p| p.borrow_mut().take()).unwrap_or_else(|| "panicked".to_string()))
}

/// Parts that a time limit is waited for in: what a suspended process sleeps through counts as one of them.
const SLICES: u32 = 100;

/// Runs `work` on a thread of its own. A panic or passing the time limit becomes an error; work that hangs keeps
/// its thread, as nothing can take it away. Time in which the whole process is suspended does not count.
pub fn guarded<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (send, receive) = channel();
    let thread = std::thread::Builder::new().name("case".into()).spawn(move || {
        // The receiver is gone when the limit has passed.
        let _ = send.send(catch(work));
    });
    if let Err(e) = thread {
        return Err(format!("no thread: {e}"));
    }
    match wait(&receive, limit / SLICES) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(format!("over {} s", limit.as_secs_f64())),
        Err(RecvTimeoutError::Disconnected) => Err("the thread ended without an answer".to_string()),
    }
}

/// Waits for [`SLICES`] slices.
fn wait<T>(receive: &Receiver<T>, slice: Duration) -> Result<T, RecvTimeoutError> {
    for _ in 1..SLICES {
        match receive.recv_timeout(slice) {
            Err(RecvTimeoutError::Timeout) => {}
            done => return done,
        }
    }
    receive.recv_timeout(slice)
}

/// `work` for every item, on as many threads as the process may use; results in the order of the items.
pub fn for_each<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<T>> = items.iter().map(|_| None).collect();
    let found = std::thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            while let Some((i, item)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
            {
                mine.push((i, work(item)));
            }
            mine
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().flat_map(|h| h.join().expect("work does not panic")).collect::<Vec<_>>()
    });
    for (i, result) in found {
        results[i] = Some(result);
    }
    results.into_iter().map(|r| r.expect("each item was taken once")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_hangs_are_errors() {
        let limit = Duration::from_secs(60);
        assert_eq!(guarded(limit, || 3), Ok(3));
        let e = guarded(limit, || -> i32 { panic!("oh no") }).unwrap_err();
        assert!(e.contains("oh no") && e.contains("guard.rs"), "{e}");
        let e = guarded(Duration::from_millis(20), || std::thread::sleep(Duration::from_secs(5))).unwrap_err();
        assert!(e.starts_with("over"), "{e}");
    }

    #[test]
    fn every_item_once_in_order() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(for_each(&items, |&i| i * 2), items.iter().map(|i| i * 2).collect::<Vec<_>>());
    }
}
