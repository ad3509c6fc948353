//! Turns the present listing into a steady list of members. Pure: the time is an argument.
//!
//! There is one member per name. A member keeps its address while that address is listed, so a second address family
//! that is listed later changes nothing. A member that is no longer listed stays for [`HOLD`], because an endpoint that
//! moves between slices may be in neither for a moment. The table would otherwise forget its shard. If the pod is gone,
//! the poller or the first attempt detects it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use wscluster_routing::member::Member;

use super::slices::{Listing, Place};

/// How long a member stays after it was last listed.
pub(crate) const HOLD: Duration = Duration::from_secs(1);

/// The present members.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    members: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    /// When it was first missing.
    missing: Option<Instant>,
}

impl Roster {
    /// The members after `listing`, and when to call again even without a new listing.
    pub(crate) fn update(&mut self, listing: &Listing, now: Instant) -> (Vec<Member>, Option<Instant>) {
        for (name, entry) in &mut self.members {
            if listing.places.contains_key(name) {
                entry.missing = None;
            } else {
                entry.missing.get_or_insert(now);
            }
        }
        self.members.retain(|_, entry| entry.missing.is_none_or(|since| now < since + HOLD));
        for (name, places) in &listing.places {
            let Some(first) = places.first() else { continue };
            let entry = self.members.entry(name.clone()).or_insert(Entry { place: *first, missing: None });
            entry.place = choose(&entry.place, places.iter().copied()).unwrap_or(*first);
        }
        let again = self.members.values().filter_map(|entry| entry.missing).min().map(|since| since + HOLD);
        (self.members(), again)
    }

    /// In numeric order: `prices-2` before `prices-10`.
    fn members(&self) -> Vec<Member> {
        let mut members: Vec<Member> = self
            .members
            .iter()
            .map(|(name, entry)| Member { name: name.clone(), ws: entry.place.ws, admin: entry.place.admin })
            .collect();
        members.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        members
    }
}

/// Prefers a place whose pod is not terminating; among equal ones, the one in use, or else the first.
fn choose(used: &Place, places: impl Iterator<Item = Place>) -> Option<Place> {
    let is_other = |place: &Place| (place.ws, place.admin) != (used.ws, used.admin);
    places.min_by_key(|place| (place.terminating, is_other(place), *place))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::slices::tests::{pod, slice};
    use super::*;

    fn names(roster: &mut Roster, slices: &[EndpointSlice], now: Instant) -> Vec<String> {
        let (members, _) = roster.update(&Listing::read(slices), now);
        members.iter().map(|member| format!("{}={}", member.name, member.ws.ip())).collect()
    }

    #[test]
    fn lists_members_in_numeric_order() {
        let pods: Vec<_> = (0..12).map(|n| pod(&format!("prices-{n}"), &format!("10.0.0.{n}"))).collect();
        let names = names(&mut Roster::default(), &[slice("a", "IPv4", &pods)], Instant::now());
        assert_eq!((&*names[2], &*names[10]), ("prices-2=10.0.0.2", "prices-10=10.0.0.10"));
    }

    #[test]
    fn keeps_the_address_in_use_when_another_family_comes() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let six = slice("six", "IPv6", &[pod("prices-0", "fd00::1")]);
        let four = slice("four", "IPv4", &[pod("prices-0", "10.0.0.1")]);
        let both = [four.clone(), six.clone()];
        assert_eq!(names(&mut roster, &[six], now), ["prices-0=fd00::1"]);
        assert_eq!(names(&mut roster, &both, now), ["prices-0=fd00::1"]);
        assert_eq!(names(&mut roster, &[four], now), ["prices-0=10.0.0.1"]);
        assert_eq!(names(&mut Roster::default(), &both, now), ["prices-0=10.0.0.1"]);
    }

    #[test]
    fn prefers_the_new_pod_of_a_name_to_the_terminating_one() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let leaving = json!({ "addresses": ["10.0.0.1"], "conditions": { "terminating": true },
            "targetRef": { "name": "prices-0" } });
        let old = slice("a", "IPv4", std::slice::from_ref(&leaving));
        assert_eq!(names(&mut roster, &[old], now), ["prices-0=10.0.0.1"], "the only pod, although it terminates");
        let both = slice("a", "IPv4", &[leaving, pod("prices-0", "10.0.0.9")]);
        assert_eq!(names(&mut roster, &[both], now), ["prices-0=10.0.0.9"]);
    }

    #[test]
    fn forgets_a_member_only_after_the_hold_time() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        let here = [slice("a", "IPv4", &[pod("prices-0", "10.0.0.1")])];
        names(&mut roster, &here, now);
        let (members, again) = roster.update(&Listing::default(), now);
        assert_eq!((members.len(), again), (1, Some(now + HOLD)));
        // It was only moving between two slices.
        assert_eq!(names(&mut roster, &here, now + HOLD), ["prices-0=10.0.0.1"]);
        assert_eq!(roster.update(&Listing::default(), now + HOLD).1, Some(now + 2 * HOLD));
        assert_eq!(roster.update(&Listing::default(), now + 2 * HOLD), (Vec::new(), None));
    }

    /// Which of four slices hold each of some pods.
    fn spread() -> impl Strategy<Value = Vec<[bool; 4]>> {
        prop::collection::vec(any::<[bool; 4]>(), 0..20)
    }

    fn slices(spread: &[[bool; 4]]) -> Vec<EndpointSlice> {
        let names = ["a", "b", "c", "d"];
        let held = |at: usize| spread.iter().enumerate().filter(move |(_, slices)| slices[at]);
        let endpoints = |at| held(at).map(|(n, _)| pod(&format!("p-{n}"), &format!("10.0.0.{n}"))).collect::<Vec<_>>();
        names.iter().enumerate().map(|(at, name)| slice(name, "IPv4", &endpoints(at))).collect()
    }

    proptest! {
        #[test]
        fn is_the_union_however_endpoints_are_spread(spread in spread(), order in Just([0, 1, 2, 3]).prop_shuffle()) {
            let slices = slices(&spread);
            let shuffled: Vec<_> = order.iter().map(|at| slices[*at].clone()).collect();
            let named = names(&mut Roster::default(), &shuffled, Instant::now());
            let mut expected: Vec<_> = spread.iter().enumerate().filter(|(_, slices)| slices.contains(&true))
                .map(|(n, _)| format!("p-{n}=10.0.0.{n}")).collect();
            expected.sort_by_key(|name| (name.split('=').next().unwrap().len(), name.clone()));
            prop_assert_eq!(named, expected);
        }

        /// Kubernetes writes slices one by one in any order. A member listed before and after is never dropped in
        /// between.
        #[test]
        fn never_drops_a_member_that_stays_while_slices_are_rewritten(
            before in spread(), after in spread(), order in Just([0, 1, 2, 3]).prop_shuffle()
        ) {
            let (mut now, mut roster) = (Instant::now(), Roster::default());
            let mut state = slices(&before);
            names(&mut roster, &state, now);
            let next = slices(&after);
            let stays: Vec<_> = (0..before.len().min(after.len()))
                .filter(|n| before[*n].contains(&true) && after[*n].contains(&true))
                .map(|n| format!("p-{n}=10.0.0.{n}")).collect();
            for at in order {
                now += HOLD / 5;
                state[at] = next[at].clone();
                let named = names(&mut roster, &state, now);
                prop_assert!(stays.iter().all(|name| named.contains(name)), "{named:?} lacks one of {stays:?}");
            }
            let settled = names(&mut roster, &state, now + HOLD);
            prop_assert_eq!(settled, names(&mut Roster::default(), &state, now));
        }
    }
}
