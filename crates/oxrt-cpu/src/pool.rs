//! A fork-join pool: the caller and its helpers run numbered tasks until none is left.
//!
//! The work is cut by the caller, so results do not depend on which thread ran what. Every thread begins with its own
//! share of the tasks, always the same one: what a step wrote lies in the caches of the thread that reads the same part of
//! it in the next step. Who is done with its share helps the others from the end of theirs. Helpers spin for a moment
//! after a job, because the next one usually follows within microseconds, and then sleep.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

/// How long a helper waits for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// Turns of the spin loop between two looks at the clock.
const TURNS: usize = 32;
/// Turns of the spin loop that the caller waits for helpers at work before it lets others run.
const PATIENCE: usize = 20_000;

/// The running job: a borrowed closure, made `'static` for the time in which `run` does not return.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
}

// SAFETY: the closure is `Sync`, and `run` keeps it alive until every helper is done with it.
unsafe impl Send for Job {}

struct Shared {
    /// `STOP`, number of the latest job, `OPEN`, and how many helpers work on it.
    state: AtomicU64,
    job: Mutex<Option<Job>>,
    wake: Condvar,
    sleepers: AtomicUsize,
    /// The tasks left of each thread's share.
    shares: Box<[Share]>,
    panicked: AtomicBool,
}

/// A range of tasks, first and end in one word, on a cache line of its own.
#[repr(align(128))]
struct Share(AtomicU64);

impl Share {
    fn set(&self, first: usize, end: usize) {
        self.0.store((first as u64) << 32 | end as u64, Ordering::Relaxed);
    }

    /// Takes a task: the first for the share's own thread, the last for another.
    fn take(&self, own: bool) -> Option<usize> {
        let (first, end) = (|v: u64| (v >> 32) as usize, |v: u64| v as u32 as usize);
        let step = |v: u64| (first(v) < end(v)).then(|| if own { v + (1 << 32) } else { v - 1 });
        // Tasks were published with the job's state; the word orders nothing but itself.
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok()?;
        Some(if own { first(before) } else { end(before) - 1 })
    }
}

impl Shared {
    /// Runs tasks, those of share `own` first, until none is left.
    fn work(&self, own: usize, task: &(dyn Fn(usize) + Sync)) {
        let n = self.shares.len();
        for i in 0..n {
            let share = &self.shares[(own + i) % n];
            while let Some(index) = share.take(i == 0) {
                task(index);
            }
        }
    }
}

/// Helpers are asked to end.
const STOP: u64 = 1 << 63;
/// The latest job may still be joined.
const OPEN: u64 = 1 << 31;
/// One job more.
const EPOCH: u64 = 1 << 32;
/// The helpers at work.
const ACTIVE: u64 = OPEN - 1;

/// The number of a state's job.
fn epoch(state: u64) -> u64 {
    (state & !STOP) >> 32
}

/// A set of helper threads. One job runs at a time; a job started from inside a job, or while another thread's job is
/// running, runs on its own thread alone.
pub struct ThreadPool {
    shared: Arc<Shared>,
    helpers: Vec<std::thread::JoinHandle<()>>,
    running: Mutex<()>,
    /// Threads that were asked for, which the system may not have given.
    wanted: usize,
}

impl ThreadPool {
    /// A pool of `threads` threads, the caller's included (at least one).
    pub fn new(threads: usize) -> ThreadPool {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: Mutex::new(None),
            wake: Condvar::new(),
            sleepers: AtomicUsize::new(0),
            shares: (0..threads.max(1)).map(|_| Share(AtomicU64::new(0))).collect(),
            panicked: AtomicBool::new(false),
        });
        let helpers = (1..threads.max(1))
            .filter_map(|i| {
                let shared = shared.clone();
                // A thread the system refuses is a thread less, not an error.
                std::thread::Builder::new().name(format!("oxrt-{i}")).spawn(move || helper(&shared, i)).ok()
            })
            .collect();
        ThreadPool { shared, helpers, running: Mutex::new(()), wanted: threads.max(1) }
    }

    /// The process-wide pool of `threads` threads: everybody who asks for as many shares one, so that several engines do
    /// not fight for the processors. It ends with its last user.
    pub fn shared(threads: usize) -> Arc<ThreadPool> {
        static POOLS: Mutex<Vec<Weak<ThreadPool>>> = Mutex::new(Vec::new());
        let mut pools = lock(&POOLS);
        pools.retain(|pool| pool.strong_count() > 0);
        let found = pools.iter().filter_map(Weak::upgrade).find(|pool| pool.wanted == threads.max(1));
        found.unwrap_or_else(|| {
            let pool = Arc::new(ThreadPool::new(threads));
            pools.push(Arc::downgrade(&pool));
            pool
        })
    }

    /// Threads that share a job, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// The number of tasks to cut work into that is worth `wanted` of them: a few per thread, and as many for each.
    pub fn parts(&self, wanted: usize) -> usize {
        parts(wanted, self.threads())
    }

    /// Calls `task(0..tasks)`, each once, on the pool's threads, and returns when all are done.
    ///
    /// # Panics
    /// When a task panics (after the others have ended).
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        let alone = || (0..tasks).for_each(&task);
        if tasks <= 1 || self.helpers.is_empty() || u32::try_from(tasks).is_err() {
            return alone();
        }
        // Held for the length of the job; already held means a nested or a concurrent job.
        let Ok(_running) = self.running.try_lock() else { return alone() };
        let shared = &*self.shared;
        let local: &(dyn Fn(usize) + Sync) = &task;
        // SAFETY: only the lifetime changes; `finish` below waits until no helper uses the closure any more.
        let task: *const (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(local) };
        for (i, share) in shared.shares.iter().enumerate() {
            let (first, count) = crate::compute::cut(tasks, shared.shares.len(), i);
            share.set(first, first + count);
        }
        *lock(&shared.job) = Some(Job { task });
        // Nobody is at work here, and only this thread opens jobs.
        let before = shared.state.load(Ordering::Relaxed);
        shared.state.store((before + EPOCH) & !(STOP | ACTIVE) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            // Taking the lock orders this wake-up after a helper's last look at the state.
            drop(lock(&shared.job));
            shared.wake.notify_all();
        }
        let finish = Finish(shared);
        shared.work(0, local);
        drop(finish);
        if shared.panicked.swap(false, Ordering::Relaxed) {
            panic!("a task of the thread pool panicked");
        }
    }
}

/// [`ThreadPool::parts`] for a number of threads.
pub fn parts(wanted: usize, threads: usize) -> usize {
    let wanted = wanted.clamp(1, 4 * threads);
    if wanted < threads { wanted } else { wanted.next_multiple_of(threads) }
}

/// Closes the job and waits for the helpers at work when dropped, so that a panic in the caller's task cannot free the
/// closure under them. Helpers that the system has not woken in time are not waited for.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0usize;
        while state & ACTIVE != 0 {
            spins += 1;
            if spins < PATIENCE {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
            state = self.0.state.load(Ordering::Acquire);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn helper(shared: &Shared, own: usize) {
    let mut seen = 0;
    let news = |seen: u64| {
        let state = shared.state.load(Ordering::SeqCst);
        state & STOP != 0 || (epoch(state) != seen && state & OPEN != 0)
    };
    loop {
        let mut since = None;
        while !news(seen) && since.get_or_insert_with(Instant::now).elapsed() < SPIN {
            (0..TURNS).take_while(|_| !news(seen)).for_each(|_| std::hint::spin_loop());
        }
        if !news(seen) {
            let mut job = lock(&shared.job);
            shared.sleepers.fetch_add(1, Ordering::SeqCst);
            while !news(seen) {
                job = shared.wake.wait(job).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            shared.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        // Joining succeeds only while the job is open: then the caller waits for this helper.
        let join = |s: u64| (s & STOP == 0 && s & OPEN != 0 && epoch(s) != seen).then_some(s + 1);
        match shared.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, join) {
            Ok(before) => seen = epoch(before),
            Err(state) if state & STOP != 0 => return,
            Err(_) => continue,
        }
        let job = *lock(&shared.job);
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let Some(Job { task }) = job else { return };
            // SAFETY: `run` does not return before this helper is taken off the state's count.
            shared.work(own, unsafe { &*task });
        }));
        if work.is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.state.fetch_or(STOP, Ordering::SeqCst);
        drop(lock(&self.shared.job));
        self.shared.wake.notify_all();
        for helper in self.helpers.drain(..) {
            let _ = helper.join();
        }
    }
}

/// The processors this process may use: the smaller of its affinity mask and its control group's quota, rounded up.
pub fn default_threads() -> usize {
    let affinity = std::thread::available_parallelism().map_or(1, |n| n.get());
    match cgroup_quota() {
        Some(quota) => affinity.min((quota.ceil() as usize).max(1)),
        None => affinity,
    }
}

/// The least processor quota of this process's control groups and those around them (version 2, and 1).
fn cgroup_quota() -> Option<f64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    least_quota(std::path::Path::new("/sys/fs/cgroup"), &own)
}

/// [`cgroup_quota`] below the folder `root`, of a process whose groups are `own` (`number:controllers:path` in lines).
fn least_quota(root: &std::path::Path, own: &str) -> Option<f64> {
    let mut least: Option<f64> = None;
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let version1 = controllers.split(',').any(|c| c == "cpu");
        if !version1 && !controllers.is_empty() {
            continue;
        }
        let top = if version1 { root.join("cpu") } else { root.to_path_buf() };
        // In a container the path may be that of the system outside, which is not there: its top is the group then.
        let group = top.join(path.trim_start_matches('/'));
        for folder in group.ancestors().take_while(|folder| folder.starts_with(&top)) {
            let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
            let text = if version1 {
                read("cpu.cfs_quota_us")
                    .zip(read("cpu.cfs_period_us"))
                    .map(|(quota, period)| format!("{quota} {period}"))
            } else {
                read("cpu.max")
            };
            if let Some(quota) = text.as_deref().and_then(quota_of) {
                least = Some(least.map_or(quota, |l| l.min(quota)));
            }
        }
    }
    least
}

/// `"<quota> <period>"` in microseconds; `"max …"` is no limit.
fn quota_of(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let pool = ThreadPool::new(threads);
            for tasks in [0, 1, 2, 7, 1000] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..50 {
                    pool.run(tasks, |i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 50), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn nested_and_concurrent_jobs_finish() {
        let pool = ThreadPool::new(3);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(8, |_| {
                            pool.run(4, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 100 * 32);
    }

    #[test]
    fn a_panic_is_passed_on_and_the_pool_survives() {
        let pool = ThreadPool::new(3);
        for bad in 0..6 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(6, |i| assert_ne!(i, bad))));
            assert!(result.is_err());
        }
        let total = AtomicUsize::new(0);
        pool.run(10, |i| {
            total.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(total.load(Ordering::Relaxed), 45);
    }

    #[test]
    fn pools_of_one_size_are_one() {
        let (a, b, c) = (ThreadPool::shared(3), ThreadPool::shared(3), ThreadPool::shared(2));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        assert_eq!((a.threads(), c.threads()), (3, 2));
    }

    /// Groups around the process's own count, in both versions' files; a path from outside a container does not hide its top.
    #[test]
    fn the_least_quota_holds() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let quota = |own: &str| least_quota(root.path(), own);
        assert_eq!(quota("0::/a/b\n"), None);
        write("a/b/cpu.max", "max 100000\n");
        write("a/cpu.max", "250000 100000\n");
        assert_eq!(quota("0::/a/b\n"), Some(2.5));
        write("cpu.max", "150000 100000\n");
        assert_eq!(quota("0::/not/here\n"), Some(1.5));
        write("cpu/job/cpu.cfs_quota_us", "50000\n");
        write("cpu/job/cpu.cfs_period_us", "100000\n");
        assert_eq!(quota("4:memory:/job\n3:cpu,cpuacct:/job\n"), Some(0.5));
        assert_eq!(quota("3:cpu,cpuacct:/\n"), None);
    }

    /// An affinity mask of one processor leaves one thread.
    #[test]
    #[cfg(target_os = "linux")]
    fn the_affinity_mask_holds() {
        let threads = std::thread::spawn(|| {
            // SAFETY: the sets are plain data of the size that is told; the mask is this thread's alone.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set), 0);
                let first = (0..libc::CPU_SETSIZE as usize).find(|&i| libc::CPU_ISSET(i, &set)).unwrap();
                libc::CPU_ZERO(&mut set);
                libc::CPU_SET(first, &mut set);
                assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set), 0);
            }
            default_threads()
        });
        assert_eq!(threads.join().unwrap(), 1);
    }

    /// Helpers without work sleep: no processor time passes in them.
    #[test]
    #[cfg(target_os = "linux")]
    fn idle_helpers_take_no_time() {
        let pool = ThreadPool::new(8);
        // Ticks of the threads called `oxrt-7`: other tests have no pool as large.
        let ticks = || -> u64 {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|t| t.unwrap().path());
            let stats = tasks.filter_map(|t| std::fs::read_to_string(t.join("stat")).ok());
            let numbers = |stat: String| -> Option<u64> {
                let (head, tail) = stat.rsplit_once(')')?;
                let fields: Vec<&str> = tail.split_whitespace().collect();
                head.ends_with("oxrt-7").then_some(())?;
                Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
            };
            stats.filter_map(numbers).sum()
        };
        pool.run(64, |_| std::thread::sleep(Duration::from_micros(50)));
        std::thread::sleep(Duration::from_millis(50));
        let before = ticks();
        std::thread::sleep(Duration::from_millis(400));
        assert!(ticks() <= before + 1, "{} ticks while idle", ticks() - before);
    }

    #[test]
    fn quotas_are_read() {
        assert_eq!(quota_of("150000 100000\n"), Some(1.5));
        assert_eq!(quota_of("max 100000\n"), None);
        assert_eq!(quota_of(""), None);
    }
}
