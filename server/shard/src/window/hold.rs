//! Holds: keep records in the window beyond their age while a backfill is about to continue from there.

use std::sync::{Arc, Weak};

use super::Window;
use super::lane::Seq;

/// While it exists, records that the window had at its creation, and later ones, are not evicted by age.
#[derive(Debug)]
pub(crate) struct Hold {
    from: Seq,
}

impl Window {
    /// Bytes that holds may keep beyond the limit of the window.
    pub(super) const HELD_BYTES: u64 = 4 << 20;

    /// Holds the current records and later ones.
    pub(crate) fn hold(&mut self) -> Arc<Hold> {
        let hold = Arc::new(Hold { from: self.base });
        self.holds.retain(|hold| hold.strong_count() > 0);
        self.holds.push_back(Arc::downgrade(&hold));
        hold
    }

    /// Whether the oldest entry is held.
    pub(super) fn is_held(&mut self) -> bool {
        // The oldest hold has the lowest start.
        while let Some(oldest) = self.holds.front() {
            match Weak::upgrade(oldest) {
                Some(hold) => return self.base >= hold.from,
                None => self.holds.pop_front(),
            };
        }
        false
    }
}
