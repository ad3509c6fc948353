//! The `Ready` condition: the spec of this generation is completely in effect.

use super::conditions::Verdict;
use super::{ApplyOutcome, View};

pub(super) fn ready(view: &View<'_>) -> Verdict {
    let target = view.input.target;
    let shards = format!("{} of {} shards", view.current(), target.shards);
    let gateways = format!("{} of {} gateways", view.gateways.ready, view.gateways.wanted);
    let counts = format!("{shards} serve at revision {}, {gateways} are ready", target.revision);
    match view.input.outcome {
        ApplyOutcome::Invalid(_) => {
            let serving = view.serving();
            return Verdict::no(
                "SpecInvalid",
                format!("the spec was not applied; {serving} shards of an earlier spec serve"),
            );
        }
        ApplyOutcome::NameTaken(_) => return Verdict::no("NameTaken", counts),
        ApplyOutcome::Failed(..) => return Verdict::no("NotApplied", counts),
        ApplyOutcome::Applied | ApplyOutcome::Paused => {}
    }
    match (view.shards_settled(), view.gateways_settled()) {
        (true, true) => Verdict::yes("Serving", counts),
        _ if view.input.cluster.spec.paused => Verdict::no("Paused", counts),
        (false, _) if view.shards().len() > target.shards as usize && view.current() >= target.shards as usize => {
            Verdict::no("ShardsLeaving", format!("{counts}; {} shards exist", view.shards().len()))
        }
        (false, _) => Verdict::no("ShardsNotReady", counts),
        (true, false) => Verdict::no("GatewaysNotReady", counts),
    }
}
