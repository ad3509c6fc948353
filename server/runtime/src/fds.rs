//! File descriptors as a budget: a gateway's tunnel takes two, a shard's connection one, and what would not fit is refused
//! while there is still a descriptor left to say so. What is connected stays connected, and the admin port reachable.
//! Only counts and tells: who accepts asks before it serves.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::log_limit::LogLimit;

/// How long after a refusal a process still counts as short of descriptors: longer than health is usually asked for.
const RECENT: Duration = Duration::from_secs(30);

/// Time between two log lines about that.
const QUIET: Duration = Duration::from_secs(10);

/// Kept free for listeners' wake-ups, health polls, admin requests, and for clients that are told about the limit.
const RESERVE: i64 = 64;

/// The descriptors this process may still use for clients.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    /// For clients, taken or not.
    all: AtomicI64,
    left: AtomicI64,
    /// What is left of the part of the reserve that serves refusals.
    refusals: AtomicI64,
    began: Instant,
    /// Milliseconds after `began`, plus one, at which a client was last refused. 0: never.
    refused: AtomicU64,
    log: LogLimit,
}

impl Budget {
    /// From the process's limit and what is open already.
    pub fn new(limit: u64, open: u64) -> Arc<Self> {
        let limit_signed = i64::try_from(limit).unwrap_or(i64::MAX);
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        // A tiny limit keeps a smaller reserve, or it would allow no tunnel at all.
        let reserve = RESERVE.min(limit_signed / 4);
        let left = limit_signed.saturating_sub(open).saturating_sub(reserve);
        Arc::new(Self {
            limit,
            all: AtomicI64::new(left),
            left: AtomicI64::new(left),
            refusals: AtomicI64::new(reserve / 2),
            began: Instant::now(),
            refused: AtomicU64::new(0),
            log: LogLimit::new(1, QUIET),
        })
    }

    /// From this process's own limit, raised as far as it may be.
    pub fn of_this_process() -> Arc<Self> {
        Self::new(crate::sockets::raise_open_files(), open_files())
    }

    /// Counts again when the process has opened nearly all that it needs for itself, with `more` to come. Best before
    /// the first client; those that are there already count as open files.
    pub fn settle(&self, more: usize) {
        let settled = Self::new(self.limit, open_files() + more as u64);
        let left = settled.left.load(Relaxed);
        self.all.store(left, Relaxed);
        self.left.store(left, Relaxed);
    }

    /// Keeps `descriptors` more for the process itself, or, where negative, that many fewer.
    pub fn set_aside(&self, descriptors: i64) {
        self.all.fetch_sub(descriptors, Relaxed);
        self.left.fetch_sub(descriptors, Relaxed);
    }

    /// The limit of open files (`RLIMIT_NOFILE`).
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Descriptors left for clients.
    pub fn room(&self) -> i64 {
        self.left.load(Relaxed)
    }

    /// How many clients there may be at a time that take `descriptors` each.
    pub fn most(&self, descriptors: i64) -> u64 {
        u64::try_from(self.all.load(Relaxed) / descriptors).unwrap_or(0)
    }

    /// Takes what one client needs: [`Permit::TUNNEL`] or [`Permit::CONNECTION`].
    pub fn take(self: &Arc<Self>, descriptors: i64) -> Option<Permit> {
        if self.left.fetch_sub(descriptors, Relaxed) >= descriptors {
            return Some(Permit { budget: Some(Arc::clone(self)), descriptors });
        }
        self.put_back(descriptors);
        None
    }

    /// Notes that a client was refused for want of descriptors; now and then in the log, too.
    pub fn refused(&self) {
        let now = self.began.elapsed().as_millis() as u64 + 1;
        self.refused.store(now, Relaxed);
        if let Some(suppressed) = self.log.admit() {
            tracing::error!(
                open_files_limit = self.limit,
                suppressed,
                "new clients are refused (fd_limit): {}",
                self.shortage()
            );
        }
    }

    /// What is wrong and what to do, where clients are refused or were a short while ago.
    pub fn trouble(&self) -> Option<String> {
        let refused = self.refused.load(Relaxed);
        let age = || self.began.elapsed().saturating_sub(Duration::from_millis(refused));
        (refused > 0 && age() < RECENT).then(|| self.shortage())
    }

    /// The limit, and the remedy.
    pub fn shortage(&self) -> String {
        shortage(self.limit)
    }

    /// Takes what one client needs that is only told that there is no more room.
    pub fn take_refusal(self: &Arc<Self>) -> Option<RefusalPermit> {
        let taken = self.refusals.fetch_sub(1, Relaxed) >= 1;
        let permit = RefusalPermit(Arc::clone(self));
        taken.then_some(permit)
    }

    /// Gives back what [`Permit::keep`] had kept.
    pub fn put_back(&self, descriptors: i64) {
        self.left.fetch_add(descriptors, Relaxed);
    }
}

/// What `error` says; and the limit and the remedy, where it is for want of descriptors.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let is_shortage = |error: &(dyn Error + 'static)| {
        error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(Errno::MFILE.raw_os_error())
    };
    if std::iter::successors(Some(error), |&error| error.source()).any(is_shortage) {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        return format!("{error}; {}", shortage(limit));
    }
    error.to_string()
}

fn shortage(limit: u64) -> String {
    format!("the limit of open files ({limit}) is reached: raise it (ulimit -n, LimitNOFILE)")
}

fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(32, Iterator::count) as u64
}

/// Descriptors for one client from accept to its end; given back on drop.
#[derive(Debug)]
pub struct Permit {
    budget: Option<Arc<Budget>>,
    descriptors: i64,
}

impl Permit {
    /// The client's and the shard's.
    pub const TUNNEL: i64 = 2;
    /// The client's.
    pub const CONNECTION: i64 = 1;

    /// The descriptors stay taken; the caller puts them back.
    pub fn keep(mut self) {
        self.budget = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.put_back(self.descriptors);
        }
    }
}

/// A descriptor of the reserve; given back on drop.
#[derive(Debug)]
pub struct RefusalPermit(Arc<Budget>);

impl Drop for RefusalPermit {
    fn drop(&mut self) {
        self.0.refusals.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_the_tunnel_that_would_pass_the_limit() {
        let budget = Budget::new(200, 20);
        let mut permits: Vec<_> = std::iter::from_fn(|| budget.take(Permit::TUNNEL)).collect();
        assert_eq!(permits.len(), (200 - 20 - 50) / 2);
        drop(permits.pop());
        let kept = budget.take(Permit::TUNNEL).unwrap();
        kept.keep();
        assert!(budget.take(Permit::TUNNEL).is_none());
        budget.put_back(Permit::TUNNEL);
        assert!(budget.take(Permit::TUNNEL).is_some());
        budget.set_aside(1);
        assert!(budget.take(Permit::TUNNEL).is_none());
        budget.set_aside(-1);
        assert!(budget.take(Permit::TUNNEL).is_some());
        assert_eq!(budget.most(Permit::TUNNEL), (200 - 20 - 50) / 2, "whether taken or not");
        let refusals: Vec<_> = std::iter::from_fn(|| budget.take_refusal()).collect();
        assert_eq!(refusals.len(), 25);
        drop(refusals);
        assert!(budget.take_refusal().is_some());
    }

    #[test]
    fn explains_errors_for_want_of_descriptors_and_no_others() {
        let error = |code: Errno| {
            let source = io::Error::from_raw_os_error(code.raw_os_error());
            explain(&crate::sockets::ListenError { addr: "127.0.0.1:1".parse().unwrap(), source })
        };
        let explained = error(Errno::MFILE);
        assert!(explained.contains("(os error 24); the limit of open files (") && explained.contains("ulimit -n"));
        assert!(!error(Errno::ACCESS).contains("ulimit"));
    }

    #[test]
    fn tells_of_the_limit_and_the_remedy_only_after_a_refusal() {
        let budget = Budget::new(200, 20);
        assert_eq!(budget.trouble(), None);
        budget.refused();
        let trouble = budget.trouble().unwrap();
        assert!(trouble.contains("(200)") && trouble.contains("ulimit -n"), "{trouble}");
    }
}
