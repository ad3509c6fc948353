//! `CapacityExhausted`: no client finds a slot. It is over when one in fifty is free again, so that it does not flap at the limit.

use wscluster_plan::State;

use super::View;
use super::conditions::{Verdict, find};

pub(super) fn exhausted(view: &View<'_>) -> Verdict {
    let serving = view.shards().iter().filter(|pod| matches!(pod.state(), State::Ready | State::Full));
    let (taken, all) = serving.fold((0_u32, 0_u32), |(taken, all), pod| {
        let capacity = pod.capacity(view.input.cluster.spec.capacity);
        (taken + pod.health.connections().min(capacity), all + capacity)
    });
    let was = find(&view.input.previous.conditions, "CapacityExhausted").is_some_and(|before| before.status == "True");
    let free = all - taken;
    let enough = if was { all / 50 } else { 0 };
    if all == 0 {
        Verdict::no("NoShards", "no shard takes connections")
    } else if free <= enough {
        Verdict::yes("NoFreeSlots", format!("{taken} of {all} slots are taken, {free} are free"))
    } else {
        Verdict::no("SlotsFree", format!("{taken} of {all} slots are taken, {free} are free"))
    }
}

/// `100 · part / whole`, rounded; 100 only when it is full.
pub(super) fn percent(part: u32, whole: u32) -> u64 {
    let (part, whole) = (u64::from(part), u64::from(whole));
    if whole == 0 {
        return 0;
    }
    let rounded = (200 * part + whole) / (2 * whole);
    if part < whole { rounded.min(99) } else { rounded }
}
