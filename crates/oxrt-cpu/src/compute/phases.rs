//! Work in phases, of which each needs the whole of the one before: the threads stay at it and wait for each other by
//! counters, which takes a fraction of what a job of the pool takes.

use crate::pool::ThreadPool;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Most parts that a phase is cut into.
const MOST: usize = 32;
/// Looks at a part that nobody has begun before another thread does it.
const PATIENCE: usize = 200;
/// Looks before a waiting thread lets others run.
const LONG: usize = 20_000;

/// How far a part has come, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Part {
    /// Phases that a thread has begun.
    begun: AtomicUsize,
    /// Phases that are done.
    done: AtomicUsize,
}

impl Part {
    /// Takes a phase of the part, if nobody has.
    fn take(&self, phase: usize) -> bool {
        self.begun.compare_exchange(phase, phase + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Tells the others when a task panics, who would wait for it in vain.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Parts that phases are cut into, of the number wanted.
pub fn parts(pool: &ThreadPool, wanted: usize) -> usize {
    wanted.clamp(1, pool.threads().min(MOST))
}

/// Calls `task(part, phase)` for `0..parts` and `0..phases`, each once, a phase after all parts of the one before. Part `i` is
/// done by thread `i` where it is there in time, so that what a part keeps in its cache stays there.
///
/// # Panics
/// When a task panics.
pub fn run(pool: &ThreadPool, parts: usize, phases: usize, task: impl Fn(usize, usize) + Sync) {
    if parts <= 1 {
        return (0..phases).for_each(|phase| task(0, phase));
    }
    debug_assert!(parts <= MOST);
    let states: [Part; MOST] = Default::default();
    let (states, alarm) = (&states[..parts], AtomicBool::new(false));
    pool.run(parts, |own| {
        let _alarm = Alarm(&alarm);
        let take = |part: usize, phase: usize| {
            let mine = states[part].take(phase);
            if mine {
                task(part, phase);
                states[part].done.store(phase + 1, Ordering::Release);
            }
            mine
        };
        let mut patience = PATIENCE;
        for phase in 0..phases {
            take(own, phase);
            let mut looks = 0;
            while !states.iter().all(|s| s.done.load(Ordering::Acquire) > phase) {
                looks += 1;
                if alarm.load(Ordering::Relaxed) {
                    return;
                }
                // A thread that the system has not woken yet, or that this one stands in for, will hardly come.
                if looks > patience && (0..parts).filter(|&part| take(part, phase)).count() > 0 {
                    patience = 0;
                }
                if looks > LONG {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_sees_all_of_the_one_before() {
        for threads in [1, 2, 3] {
            let pool = ThreadPool::new(threads);
            let parts = parts(&pool, 5);
            assert_eq!(parts, threads);
            // Also from within a job, where one thread does all of it.
            for nested in [false, true] {
                let cells: Vec<AtomicUsize> = (0..2 * parts).map(|_| AtomicUsize::new(1)).collect();
                let step = |part: usize, phase: usize| {
                    let (from, to) = (phase % 2 * parts, (phase + 1) % 2 * parts);
                    let sum: usize = cells[from..from + parts].iter().map(|c| c.load(Ordering::Relaxed)).sum();
                    cells[to + part].store((sum + part) % 1009, Ordering::Relaxed);
                };
                if nested {
                    pool.run(1, |_| run(&pool, parts, 2000, step));
                } else {
                    run(&pool, parts, 2000, step);
                }
                let mut want = vec![1; parts];
                for _ in 0..2000 {
                    let sum: usize = want.iter().sum();
                    want = (0..parts).map(|part| (sum + part) % 1009).collect();
                }
                let got: Vec<usize> = cells[..parts].iter().map(|c| c.load(Ordering::Relaxed)).collect();
                assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn a_panic_ends_the_others() {
        let pool = ThreadPool::new(2);
        let bad = std::panic::AssertUnwindSafe(|| run(&pool, 2, 10, |part, phase| assert_ne!((part, phase), (1, 5))));
        assert!(std::panic::catch_unwind(bad).is_err());
    }
}
