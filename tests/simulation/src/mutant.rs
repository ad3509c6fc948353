//! Parts that are broken on purpose, one at a time. Twenty thousand seeds must detect each of them: this proves that
//! the checks can fail.

use clap::ValueEnum;
use wscluster_plan::{Action, Desired, Observed, Plan, Shard, State};

use crate::scenario::Spec;
use crate::world::World;

/// The broken part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutant {
    /// The plan removes and replaces shards without a drain.
    RemovesWithoutDrain,
    /// The plan treats every slot as free.
    IgnoresSlots,
    /// The plan counts free slots of shards that a gateway does not know.
    CountsUnknown,
    /// The plan ignores clients that are reconnecting.
    ForgetsReturning,
    /// The plan sets the partition to 0 at once.
    LetsTemplatesRoll,
    /// The plan never cancels a drain.
    NeverUndrains,
    /// The plan treats a silent shard as empty.
    RemovesSilent,
    /// The plan removes a shard that only the operator cannot reach.
    IgnoresKubelet,
    /// The plan moves every shard at once.
    IgnoresMotion,
    /// The plan waits until broken shards are ready.
    WaitsForBroken,
    /// The operator trusts health answers from before its own action.
    TrustsOldHealth,
    /// The picker may pick a full shard.
    PicksFull,
    /// The picker may pick a draining shard.
    PicksDraining,
    /// A gateway never tries a second shard.
    NeverRetries,
    /// A shard grants more slots than it has.
    OverAdmits,
    /// A shard does not free the slots of some clients.
    LeaksSlots,
    /// A shard is ready before its window is filled, and claims a complete window.
    ReadyTooEarly,
    /// A shard starts sessions at the end of the log, ignoring the position of the client.
    ForgetsPosition,
    /// A shard starts sessions one record too early.
    Repeats,
}

impl World {
    /// Breaks the input of the plan.
    pub(crate) fn mutant_before(&self, desired: &mut Desired, observed: &mut Observed) {
        match self.mutant {
            Some(Mutant::IgnoresSlots) => {
                for shard in &mut observed.shards {
                    shard.capacity = shard.connections + 1_000;
                    shard.state = if shard.state == State::Full { State::Ready } else { shard.state };
                }
            }
            Some(Mutant::CountsUnknown) => observed.shards.iter_mut().for_each(|shard| shard.known_to_gateways = true),
            Some(Mutant::ForgetsReturning) => observed.reconnecting = 0,
            Some(Mutant::RemovesSilent) => {
                for shard in observed.shards.iter_mut().filter(|shard| shard.state == State::Silent) {
                    shard.state = State::Failing;
                }
            }
            Some(Mutant::IgnoresKubelet) => observed.shards.iter_mut().for_each(|shard| shard.pod_ready = false),
            Some(Mutant::WaitsForBroken) => {
                let waits = |shard: &&mut Shard| {
                    matches!(shard.state, State::Failing | State::Starting) && shard.revision != desired.revision
                };
                for shard in observed.shards.iter_mut().filter(waits) {
                    (shard.state, shard.pod_ready, shard.since) = (State::Silent, false, None);
                }
            }
            Some(Mutant::IgnoresMotion) => desired.max_in_motion = 1_000,
            _ => {}
        }
    }

    /// Breaks the output of the plan.
    pub(crate) fn mutant_after(&self, spec: &Spec, planned: &mut Plan) {
        match self.mutant {
            Some(Mutant::RemovesWithoutDrain) => {
                for step in &mut planned.steps {
                    if matches!(step.action, Action::Drain { .. }) && step.ordinal >= spec.shards {
                        planned.replicas = planned.replicas.min(step.ordinal);
                        step.action = Action::Remove;
                    } else if matches!(step.action, Action::Drain { .. }) {
                        planned.partition = planned.partition.min(step.ordinal);
                        step.action = Action::Restart;
                    }
                }
            }
            Some(Mutant::LetsTemplatesRoll) => planned.partition = 0,
            Some(Mutant::NeverUndrains) => planned.steps.retain(|step| step.action != Action::Undrain),
            _ => {}
        }
    }
}
