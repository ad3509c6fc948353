//! The next step of a rollout of gateways, with the rules of a `Deployment`: a new gateway serves before an old one
//! ends, and one is replaced at a time. Pure.

use std::fmt;

/// What matters of a gateway for the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GatewaySnapshot {
    /// Whether it runs the wanted revision.
    pub(crate) is_current: bool,
    /// Whether it takes upgrades.
    pub(crate) is_ready: bool,
    /// Whether it was asked to end.
    pub(crate) is_leaving: bool,
}

/// A step of the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RolloutStep {
    /// Start a gateway of the wanted revision.
    Start(RolloutReason),
    /// Stop the gateway at this index.
    Stop(usize, RolloutReason),
}

/// The reason for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RolloutReason {
    /// The wanted number of gateways has changed to this.
    Wanted(u32),
    /// The revision changed.
    Revision,
}

impl fmt::Display for RolloutReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted(1) => f.write_str("1 gateway is wanted"),
            Self::Wanted(wanted) => write!(f, "{wanted} gateways are wanted"),
            Self::Revision => f.write_str("its configuration changed"),
        }
    }
}

/// The next step towards `wanted` gateways of the wanted revision. `gateways` is ordered from the oldest. `None` when
/// nothing is to be done now.
pub(crate) fn next(wanted: u32, gateways: &[GatewaySnapshot]) -> Option<RolloutStep> {
    let serving = || gateways.iter().enumerate().filter(|(_, gateway)| !gateway.is_leaving);
    let count = |fits: fn(&GatewaySnapshot) -> bool| serving().filter(|(_, gateway)| fits(gateway)).count() as u32;
    let (current, old) = (count(|gateway| gateway.is_current), count(|gateway| !gateway.is_current));
    let ready = count(|gateway| gateway.is_ready);
    let why = if old == 0 { RolloutReason::Wanted(wanted) } else { RolloutReason::Revision };
    let is_leaving = gateways.iter().any(|gateway| gateway.is_leaving);
    let is_starting = count(|gateway| gateway.is_current && !gateway.is_ready) > 0;
    // From the newest.
    let last =
        |fits: fn(&GatewaySnapshot) -> bool| serving().rfind(|(_, gateway)| fits(gateway)).map(|(index, _)| index);

    // An old gateway that is not ready goes first, but only when there are enough others: it may be silent for a
    // moment.
    if current + old > wanted
        && !is_starting
        && let Some(broken) = last(|gateway| !gateway.is_current && !gateway.is_ready)
    {
        return Some(RolloutStep::Stop(broken, RolloutReason::Revision));
    }
    if current + old > wanted && old == 0 {
        let surplus = last(|gateway| !gateway.is_ready).or_else(|| last(|_| true))?;
        return (!is_leaving).then_some(RolloutStep::Stop(surplus, RolloutReason::Wanted(wanted)));
    }
    if old > 0 && ready > wanted {
        // One at a time: clients then reconnect at the drain rate of one gateway.
        return last(|gateway| !gateway.is_current)
            .filter(|_| !is_leaving)
            .map(|old| RolloutStep::Stop(old, RolloutReason::Revision));
    }
    let may_start = current < wanted && current + old <= wanted && (old == 0 || !is_starting);
    may_start.then_some(RolloutStep::Start(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: GatewaySnapshot = GatewaySnapshot { is_current: false, is_ready: true, is_leaving: false };
    const NEW: GatewaySnapshot = GatewaySnapshot { is_current: true, is_ready: true, is_leaving: false };
    const STARTING: GatewaySnapshot = GatewaySnapshot { is_ready: false, ..NEW };
    const BROKEN: GatewaySnapshot = GatewaySnapshot { is_ready: false, ..OLD };
    const LEAVING: GatewaySnapshot = GatewaySnapshot { is_leaving: true, ..OLD };

    #[test]
    fn replaces_one_gateway_after_the_other() {
        let revision = |place| Some(RolloutStep::Stop(place, RolloutReason::Revision));
        let start = Some(RolloutStep::Start(RolloutReason::Revision));
        for (seen, step) in [
            (vec![OLD, OLD], start),
            (vec![OLD, OLD, STARTING], None),
            (vec![OLD, OLD, NEW], revision(1)),
            (vec![OLD, LEAVING, NEW], start),
            (vec![OLD, LEAVING, NEW, NEW], None),
            (vec![OLD, NEW, NEW], revision(0)),
            (vec![LEAVING, NEW, NEW], None),
            (vec![NEW, NEW], None),
            // A gateway with a bad configuration is replaced without waiting until it is ready.
            (vec![OLD, OLD, BROKEN], revision(2)),
            // Old gateways that are not ready stay until a new one serves.
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
    fn follows_the_wanted_number() {
        for (wanted, seen, step) in [
            (2, vec![], Some(RolloutStep::Start(RolloutReason::Wanted(2)))),
            (2, vec![STARTING], Some(RolloutStep::Start(RolloutReason::Wanted(2)))),
            (2, vec![STARTING, STARTING], None),
            (1, vec![NEW, NEW, NEW], Some(RolloutStep::Stop(2, RolloutReason::Wanted(1)))),
            (1, vec![NEW, STARTING, NEW], Some(RolloutStep::Stop(1, RolloutReason::Wanted(1)))),
            (1, vec![NEW, NEW, GatewaySnapshot { is_leaving: true, ..NEW }], None),
            // Fewer gateways and another revision at once.
            (1, vec![OLD, OLD], Some(RolloutStep::Stop(1, RolloutReason::Revision))),
            (1, vec![OLD], Some(RolloutStep::Start(RolloutReason::Revision))),
        ] {
            assert_eq!(next(wanted, &seen), step, "{wanted} of {seen:?}");
        }
    }

    #[test]
    fn converges_from_every_mix_of_revisions_and_keeps_enough_serving() {
        for wanted in 1..5 {
            for start in 0..6_u32 {
                for current in 0..=start {
                    let seen = (0..start).map(|n| if n < current { NEW } else { OLD });
                    converges(wanted, seen.collect());
                }
            }
        }
    }

    fn converges(wanted: u32, mut seen: Vec<GatewaySnapshot>) {
        let least = wanted.min(seen.len() as u32);
        for _ in 0..50 {
            match next(wanted, &seen) {
                Some(RolloutStep::Start(_)) => seen.push(STARTING),
                Some(RolloutStep::Stop(place, _)) => seen[place].is_leaving = true,
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
