//! The `CapacityExhausted` condition: no slot is free. It ends when 2 % of the slots are free again, so that it does
//! not oscillate.

use wscluster_plan::State;

use super::View;
use super::conditions::{ConditionType, Verdict, holds};

pub(super) fn exhausted(view: &View<'_>) -> Verdict {
    let serving = view.shards().iter().filter(|pod| matches!(pod.state(), State::Ready | State::Full));
    let (taken, all) = serving.fold((0_u32, 0_u32), |(taken, all), pod| {
        let capacity = pod.capacity(view.input.cluster.spec.capacity);
        (taken + pod.health.connections().min(capacity), all + capacity)
    });
    let was_exhausted = holds(&view.input.previous.conditions, ConditionType::CapacityExhausted);
    let free = all - taken;
    let enough = if was_exhausted { all / 50 } else { 0 };
    if all == 0 {
        Verdict::no("NoShards", "no shard accepts connections")
    } else if free <= enough {
        Verdict::yes("NoFreeSlots", format!("{taken} of {all} slots are taken, {free} are free"))
    } else {
        Verdict::no("SlotsFree", format!("{taken} of {all} slots are taken, {free} are free"))
    }
}

/// `part` in percent of `whole`, rounded, but 100 only if they are equal.
pub(super) fn percent(part: u32, whole: u32) -> u64 {
    let (part, whole) = (u64::from(part), u64::from(whole));
    if whole == 0 {
        return 0;
    }
    let rounded = (200 * part + whole) / (2 * whole);
    if part < whole { rounded.min(99) } else { rounded }
}
