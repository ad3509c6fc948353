//! What happens to the gateways next, as a `Deployment` would have it: a new one serves before an old one goes, and one moves at a
//! time. Pure.

use std::fmt;

/// A gateway as seen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether it runs the wanted revision.
    pub is_current: bool,
    /// Whether it takes upgrades.
    pub is_ready: bool,
    /// Whether it was told to end.
    pub is_leaving: bool,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start one of the wanted revision.
    Start(Why),
    /// Stop the one at this place.
    Stop(usize, Why),
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// More are wanted, or fewer: so many.
    Wanted(u32),
    /// The revision changed.
    Revision,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted(1) => f.write_str("1 gateway is wanted"),
            Self::Wanted(wanted) => write!(f, "{wanted} gateways are wanted"),
            Self::Revision => f.write_str("its configuration changed"),
        }
    }
}

/// The next step towards `wanted` gateways of the wanted revision, from `seen` (oldest first); none when there is nothing to do
/// now.
pub fn next(wanted: u32, seen: &[Seen]) -> Option<Step> {
    let serving = || seen.iter().enumerate().filter(|(_, gateway)| !gateway.is_leaving);
    let count = |fits: fn(&Seen) -> bool| serving().filter(|(_, gateway)| fits(gateway)).count() as u32;
    let (current, old) = (count(|gateway| gateway.is_current), count(|gateway| !gateway.is_current));
    let ready = count(|gateway| gateway.is_ready);
    let why = if old == 0 { Why::Wanted(wanted) } else { Why::Revision };
    let is_leaving = seen.iter().any(|gateway| gateway.is_leaving);
    let is_starting = count(|gateway| gateway.is_current && !gateway.is_ready) > 0;
    // Newest first, and one that serves nobody before one that does.
    let last = |fits: fn(&Seen) -> bool| serving().rfind(|(_, gateway)| fits(gateway)).map(|(place, _)| place);

    // One that seems to serve nobody may be silent only for a moment: it goes first, but not before there are enough others.
    if current + old > wanted
        && !is_starting
        && let Some(broken) = last(|gateway| !gateway.is_current && !gateway.is_ready)
    {
        return Some(Step::Stop(broken, Why::Revision));
    }
    if current + old > wanted && old == 0 {
        let surplus = last(|gateway| !gateway.is_ready).or_else(|| last(|_| true))?;
        return (!is_leaving).then_some(Step::Stop(surplus, Why::Wanted(wanted)));
    }
    if old > 0 && ready > wanted {
        // The next one goes when the last one has moved its clients: they come back at the rate of one.
        return last(|gateway| !gateway.is_current).filter(|_| !is_leaving).map(|old| Step::Stop(old, Why::Revision));
    }
    let may_start = current < wanted && current + old <= wanted && (old == 0 || !is_starting);
    may_start.then_some(Step::Start(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Seen = Seen { is_current: false, is_ready: true, is_leaving: false };
    const NEW: Seen = Seen { is_current: true, is_ready: true, is_leaving: false };
    const STARTING: Seen = Seen { is_ready: false, ..NEW };
    const BROKEN: Seen = Seen { is_ready: false, ..OLD };
    const LEAVING: Seen = Seen { is_leaving: true, ..OLD };

    #[test]
    fn replaces_one_gateway_after_the_other() {
        let revision = |place| Some(Step::Stop(place, Why::Revision));
        let start = Some(Step::Start(Why::Revision));
        for (seen, step) in [
            (vec![OLD, OLD], start),
            (vec![OLD, OLD, STARTING], None),
            (vec![OLD, OLD, NEW], revision(1)),
            (vec![OLD, LEAVING, NEW], start),
            (vec![OLD, LEAVING, NEW, NEW], None),
            (vec![OLD, NEW, NEW], revision(0)),
            (vec![LEAVING, NEW, NEW], None),
            (vec![NEW, NEW], None),
            // A bad configuration is replaced by the next one without waiting for it.
            (vec![OLD, OLD, BROKEN], revision(2)),
            // Old ones that cannot be told from broken ones stay until a new one is there.
            (vec![BROKEN, BROKEN], start),
            (vec![BROKEN, BROKEN, STARTING], None),
            (vec![BROKEN, BROKEN, NEW], revision(1)),
            (vec![BROKEN, LEAVING, NEW], start),
            (vec![BROKEN, NEW, STARTING], None),
            (vec![BROKEN, NEW, NEW], revision(0)),
        ] {
            assert_eq!(next(2, &seen), step, "{seen:?}");
        }
    }

    #[test]
    fn follows_the_number_that_is_wanted() {
        for (wanted, seen, step) in [
            (2, vec![], Some(Step::Start(Why::Wanted(2)))),
            (2, vec![STARTING], Some(Step::Start(Why::Wanted(2)))),
            (2, vec![STARTING, STARTING], None),
            (1, vec![NEW, NEW, NEW], Some(Step::Stop(2, Why::Wanted(1)))),
            (1, vec![NEW, STARTING, NEW], Some(Step::Stop(1, Why::Wanted(1)))),
            (1, vec![NEW, NEW, Seen { is_leaving: true, ..NEW }], None),
            // Both at once: fewer, and other ones.
            (1, vec![OLD, OLD], Some(Step::Stop(1, Why::Revision))),
            (1, vec![OLD], Some(Step::Start(Why::Revision))),
        ] {
            assert_eq!(next(wanted, &seen), step, "{wanted} of {seen:?}");
        }
    }

    #[test]
    fn converges_from_everywhere_and_keeps_enough_that_serve() {
        for wanted in 1..5 {
            for start in 0..6_u32 {
                for current in 0..=start {
                    let seen = (0..start).map(|n| if n < current { NEW } else { OLD });
                    converges(wanted, seen.collect());
                }
            }
        }
    }

    fn converges(wanted: u32, mut seen: Vec<Seen>) {
        let least = wanted.min(seen.len() as u32);
        for _ in 0..50 {
            match next(wanted, &seen) {
                Some(Step::Start(_)) => seen.push(STARTING),
                Some(Step::Stop(place, _)) => seen[place].is_leaving = true,
                None => {
                    seen.retain(|gateway| !gateway.is_leaving);
                    for gateway in &mut seen {
                        gateway.is_ready = true;
                    }
                }
            }
            let serving = seen.iter().filter(|gateway| gateway.is_ready && !gateway.is_leaving).count() as u32;
            assert!(serving >= least, "{wanted}: {seen:?}");
        }
        assert_eq!(seen, vec![NEW; wanted as usize]);
    }
}
