//! File descriptors as a budget: a tunnel takes two, and what would not fit is refused while there is still a
//! descriptor left to say so. What is connected stays connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Kept free for listeners' wake-ups, health polls, admin requests, and for clients that are told about the limit.
const RESERVE: i64 = 64;

/// The descriptors this process may still use for tunnels.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    left: AtomicI64,
    /// What is left of the part of the reserve that serves refusals.
    refusals: AtomicI64,
}

impl Budget {
    /// From the process's limit and what is open already.
    pub fn new(limit: u64, open: u64) -> Arc<Self> {
        let limit_signed = i64::try_from(limit).unwrap_or(i64::MAX);
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        // A tiny limit keeps a smaller reserve, or it would allow no tunnel at all.
        let reserve = RESERVE.min(limit_signed / 4);
        let left = limit_signed.saturating_sub(open).saturating_sub(reserve);
        Arc::new(Self { limit, left: AtomicI64::new(left), refusals: AtomicI64::new(reserve / 2) })
    }

    /// From this process's own limit, raised as far as it may be.
    pub fn of_this_process() -> Arc<Self> {
        Self::new(crate::net::raise_open_files(), open_files())
    }

    /// Counts again when the process has opened nearly all that it needs for itself, with `more` to come. Before the
    /// first tunnel.
    pub fn settle(&self, more: usize) {
        let settled = Self::new(self.limit, open_files() + more as u64);
        self.left.store(settled.left.load(Relaxed), Relaxed);
    }

    /// The limit of open files (`RLIMIT_NOFILE`).
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes what one tunnel needs.
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        if self.left.fetch_sub(Permit::TUNNEL, Relaxed) >= Permit::TUNNEL {
            return Some(Permit(Some(Arc::clone(self))));
        }
        self.put_back(Permit::TUNNEL);
        None
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

fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(32, Iterator::count) as u64
}

/// Descriptors for one handshake and its tunnel; given back on drop.
#[derive(Debug)]
pub struct Permit(Option<Arc<Budget>>);

impl Permit {
    /// The client's and the shard's.
    pub const TUNNEL: i64 = 2;

    /// The descriptors stay taken; the caller puts them back.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(budget) = self.0.take() {
            budget.put_back(Self::TUNNEL);
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
        let mut permits: Vec<_> = std::iter::from_fn(|| budget.take()).collect();
        assert_eq!(permits.len(), (200 - 20 - 50) / 2);
        drop(permits.pop());
        let kept = budget.take().unwrap();
        kept.keep();
        assert!(budget.take().is_none());
        budget.put_back(Permit::TUNNEL);
        assert!(budget.take().is_some());
        let refusals: Vec<_> = std::iter::from_fn(|| budget.take_refusal()).collect();
        assert_eq!(refusals.len(), 25);
        drop(refusals);
        assert!(budget.take_refusal().is_some());
    }
}
