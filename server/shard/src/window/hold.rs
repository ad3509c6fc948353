//! What stays in the window although it is too old: somebody is about to go on from there.

use std::sync::{Arc, Weak};

use super::Window;
use super::lane::Seq;

/// While it lives, no age drives out what the window had when it was made, nor what came since.
#[derive(Debug)]
pub struct Hold {
    from: Seq,
}

impl Window {
    /// Bytes that holds may keep beyond the limit.
    pub(super) const HELD_BYTES: u64 = 4 << 20;

    /// Holds what is here and what comes.
    pub fn hold(&mut self) -> Arc<Hold> {
        let hold = Arc::new(Hold { from: self.base });
        self.holds.retain(|hold| hold.strong_count() > 0);
        self.holds.push_back(Arc::downgrade(&hold));
        hold
    }

    /// Whether the oldest entry is held.
    pub(super) fn is_held(&mut self) -> bool {
        // The oldest hold begins first.
        while let Some(oldest) = self.holds.front() {
            match Weak::upgrade(oldest) {
                Some(hold) => return self.base >= hold.from,
                None => self.holds.pop_front(),
            };
        }
        false
    }
}
