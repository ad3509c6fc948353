//! [`autoscale()`] with memory: past samples and the last change.

use std::time::Duration;

use wscluster_api::WsClusterSpec;

use crate::{CurrentScale, Sample, ScaleReason, Timestamp, WantedShards, autoscale};

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(5);
/// Longest time between two calls while nothing changes.
const LONGEST_PAUSE: Duration = Duration::from_mins(6);

/// Computes the wanted number of shards of one cluster, and remembers the samples that this requires.
#[derive(Clone, Debug, Default)]
pub struct Autoscaler {
    /// Each holds the highest count until the next one.
    samples: Vec<Sample>,
    /// The last wanted number of shards, and since when.
    last: Option<(u32, Timestamp)>,
}

impl Autoscaler {
    /// The number of shards that `spec` asks for with this many `connections`: `spec.shards`, or with
    /// `spec.autoscale` the number that the connections need. Without memory, `before` is taken as the number that
    /// was wanted until now.
    pub fn wanted(
        &mut self,
        spec: &WsClusterSpec,
        before: Option<u32>,
        connections: u32,
        now: Timestamp,
    ) -> WantedShards {
        let Some(rules) = &spec.autoscale else {
            *self = Self::default();
            return WantedShards { shards: spec.shards, reason: ScaleReason::Declared };
        };
        match self.samples.last_mut() {
            Some(last) if now.since(last.at) < EVERY => last.connections = last.connections.max(connections),
            last => {
                // The caller reports every change, so after a long gap the last count held until now.
                let held = last.filter(|last| now.since(last.at) > EVERY * 3).map(|last| Sample { at: now, ..*last });
                self.samples.extend(held);
                self.samples.push(Sample { at: now, connections });
            }
        }
        let kept = rules.scale_up.window.0.max(rules.scale_down.window.0) + LONGEST_PAUSE;
        self.samples.retain(|sample| now.since(sample.at) <= kept);
        let scale = CurrentScale {
            shards: self.last.map(|(shards, _)| shards).or(before).unwrap_or(rules.min),
            capacity: spec.capacity,
            changed: self.last.map(|(_, since)| since),
        };
        let wanted = autoscale(rules, &scale, &self.samples, now);
        if self.last.is_none_or(|(shards, _)| shards != wanted.shards) {
            self.last = Some((wanted.shards, now));
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use wscluster_api::spec::{Autoscale, Delivery, Drain, Gateway, Rollout, ScaleDown, ScaleUp, Source, Template};
    use wscluster_api::units::Span;

    use super::*;

    /// One to nine shards of 100 connections, used to 70 %. The scale-down window is one minute.
    fn spec() -> WsClusterSpec {
        WsClusterSpec {
            shards: 4,
            capacity: 100,
            source: Source::default(),
            delivery: Delivery::default(),
            gateway: Gateway::default(),
            drain: Drain::default(),
            rollout: Rollout::default(),
            rebalance: None,
            autoscale: Some(Autoscale {
                min: 1,
                max: 9,
                target_utilization: 70,
                headroom: 0,
                scale_up: ScaleUp { lead: Span::secs(0), ..ScaleUp::default() },
                scale_down: ScaleDown { window: Span::secs(60), interval: Span::secs(0) },
            }),
            paused: false,
            template: Template::default(),
        }
    }

    /// The wanted shards for each second and number of connections.
    fn wanted(autoscaler: &mut Autoscaler, looks: impl IntoIterator<Item = (u64, u32)>) -> Vec<u32> {
        let look = |(second, connections)| {
            autoscaler.wanted(&spec(), Some(3), connections, Timestamp::from_millis(1_000 * second)).shards
        };
        looks.into_iter().map(look).collect()
    }

    #[test]
    fn scales_up_at_once_and_remembers_short_peaks() {
        let mut autoscaler = Autoscaler::default();
        assert_eq!(wanted(&mut autoscaler, [(0, 210), (1, 211), (2, 0)]), [3, 4, 4]);
        let quiet = wanted(&mut autoscaler, (3..70).map(|second| (second, 0)));
        let first = quiet.iter().position(|shards| *shards < 4).unwrap();
        assert!((56..=63).contains(&first), "{first} seconds after the third");
    }

    #[test]
    fn the_last_count_holds_through_a_gap() {
        let mut autoscaler = Autoscaler::default();
        assert_eq!(wanted(&mut autoscaler, [(0, 210), (300, 0), (355, 0), (361, 0)]), [3, 3, 3, 2]);
        // Calls further apart than the window do not keep it from ending.
        assert_eq!(wanted(&mut autoscaler, [(661, 0)]), [1]);
    }

    #[test]
    fn continues_from_the_given_number_without_memory() {
        assert_eq!(wanted(&mut Autoscaler::default(), [(0, 0), (30, 0)]), [3, 3]);
        let fresh = Autoscaler::default().wanted(&spec(), None, 0, Timestamp::from_millis(0));
        assert_eq!(fresh.shards, 1, "no shard exists yet");
    }

    #[test]
    fn forgets_everything_when_the_spec_sets_the_number() {
        let mut autoscaler = Autoscaler::default();
        assert_eq!(wanted(&mut autoscaler, [(0, 700)]), [9]);
        let declared = WsClusterSpec { autoscale: None, ..spec() };
        let at = Timestamp::from_millis(1_000);
        assert_eq!(
            autoscaler.wanted(&declared, Some(9), 700, at),
            WantedShards { shards: 4, reason: ScaleReason::Declared }
        );
        assert_eq!(wanted(&mut autoscaler, [(2, 0)]), [3]);
    }
}
