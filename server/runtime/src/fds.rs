//! A budget of file descriptors: a gateway's tunnel takes two, a shard's connection one. A client beyond the budget
//! is refused while descriptors for the answer are left; open connections and the admin port are not affected.
//!
//! The budget only counts. Code that accepts connections takes a permit before it serves one.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::places::{Place, Places};
use crate::shortage::Shortage;

/// Reserved for event loops, health polls, admin requests, and answers to refused clients.
const RESERVE: i64 = 64;

/// The descriptors that this process may use for clients.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    /// For clients, used or not.
    all: AtomicI64,
    left: AtomicI64,
    /// Descriptors of the reserve for refusals.
    refusals: Arc<Places>,
    shortage: Shortage,
}

impl Budget {
    /// The budget that `limit` leaves beside the `open` descriptors.
    pub fn new(limit: u64, open: u64) -> Arc<Self> {
        let limit_signed = i64::try_from(limit).unwrap_or(i64::MAX);
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        // A tiny limit gets a smaller reserve; otherwise it would allow no tunnel at all.
        let reserve = RESERVE.min(limit_signed / 4);
        let left = limit_signed.saturating_sub(open).saturating_sub(reserve);
        Arc::new(Self {
            limit,
            all: AtomicI64::new(left),
            left: AtomicI64::new(left),
            refusals: Places::new((reserve / 2) as usize),
            shortage: Shortage::default(),
        })
    }

    /// The budget of this process, whose soft limit is raised to the hard one.
    pub fn of_this_process() -> Arc<Self> {
        Self::new(crate::sockets::raise_open_files(), open_files())
    }

    /// Counts again once the process has opened most descriptors of its own; `more` are still to be opened. To be
    /// called before the first client, since connections count as open files.
    pub fn settle(&self, more: usize) {
        let settled = Self::new(self.limit, open_files() + more as u64);
        let left = settled.left.load(Relaxed);
        self.all.store(left, Relaxed);
        self.left.store(left, Relaxed);
    }

    /// Reserves `descriptors` more for the process itself; fewer if negative.
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

    /// Largest number of clients at a time that take `descriptors` each.
    pub fn most(&self, descriptors: i64) -> u64 {
        u64::try_from(self.all.load(Relaxed) / descriptors).unwrap_or(0)
    }

    /// Takes the descriptors of one client: [`Permit::TUNNEL`] or [`Permit::CONNECTION`].
    pub fn take(self: &Arc<Self>, descriptors: i64) -> Option<Permit> {
        if self.left.fetch_sub(descriptors, Relaxed) >= descriptors {
            return Some(Permit { budget: Some(Arc::clone(self)), descriptors });
        }
        self.put_back(descriptors);
        None
    }

    /// Records that a client was refused because descriptors are short; logs that at intervals.
    pub fn refused(&self) {
        if let Some(suppressed) = self.shortage.refused() {
            tracing::error!(
                open_files_limit = self.limit,
                suppressed,
                "new clients are refused (fd_limit): {}",
                self.shortage()
            );
        }
    }

    /// The shortage and its remedy, if clients were refused within the last 30 s.
    pub fn trouble(&self) -> Option<String> {
        self.shortage.is_recent().then(|| self.shortage())
    }

    /// A sentence with the limit and the remedy.
    pub fn shortage(&self) -> String {
        shortage(self.limit)
    }

    /// Takes a descriptor from the reserve, for a client that is only refused, until it has had time to read the answer.
    /// If none is left, another such client has to make room.
    pub fn take_refusal(&self) -> Option<Place> {
        self.refusals.take()
    }

    /// Returns descriptors that [`Permit::keep`] had kept.
    pub fn put_back(&self, descriptors: i64) {
        self.left.fetch_add(descriptors, Relaxed);
    }
}

/// The message of `error`, with the limit and the remedy if its cause is a shortage of descriptors.
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

/// The descriptors of one client from accept to its end; returned on drop.
#[derive(Debug)]
pub struct Permit {
    budget: Option<Arc<Budget>>,
    descriptors: i64,
}

impl Permit {
    /// A connection to the client and one to the shard.
    pub const TUNNEL: i64 = 2;
    /// A connection to the client.
    pub const CONNECTION: i64 = 1;

    /// Keeps the descriptors; the caller returns them with [`Budget::put_back`].
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
        let refusals: Vec<_> = (0..26).map_while(|_| budget.take_refusal()).collect();
        assert_eq!(refusals.iter().position(|permit| permit.has_replaced), Some(25));
    }

    #[test]
    fn explains_a_shortage_of_descriptors_and_no_other_error() {
        let error = |code: Errno| {
            let source = io::Error::from_raw_os_error(code.raw_os_error());
            explain(&crate::sockets::ListenError { addr: "127.0.0.1:1".parse().unwrap(), source })
        };
        let explained = error(Errno::MFILE);
        assert!(explained.contains("(os error 24); the limit of open files (") && explained.contains("ulimit -n"));
        assert!(!error(Errno::ACCESS).contains("ulimit"));
    }

    #[test]
    fn reports_the_limit_and_the_remedy_only_after_a_refusal() {
        let budget = Budget::new(200, 20);
        assert_eq!(budget.trouble(), None);
        budget.refused();
        let trouble = budget.trouble().unwrap();
        assert!(trouble.contains("(200)") && trouble.contains("ulimit -n"), "{trouble}");
    }
}
