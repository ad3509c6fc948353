//! Rules of delivery, gateway, drain and autoscale: which of two fields must be larger.

use super::Rule;
use crate::violation::Violation;

pub(super) fn rules() -> impl Iterator<Item = Rule> {
    [
        Rule::new(
            "spec.delivery",
            "duration(self.pongTimeout) > duration(self.pingInterval)",
            "pongTimeout must be longer than pingInterval: an idle client answers only pings",
            |spec, found| {
                let (interval, pong) = (spec.delivery.ping_interval, spec.delivery.pong_timeout);
                if pong <= interval {
                    let remedy =
                        format!("write more than pingInterval ({interval}): an idle client answers only pings");
                    found.push(Violation::new("spec.delivery.pongTimeout", pong, remedy));
                }
            },
        ),
        Rule::new(
            "spec.gateway.limits",
            "duration(self.shardTimeout) <= duration(self.handshakeTimeout)",
            "shardTimeout must not be longer than handshakeTimeout, which covers all attempts",
            |spec, found| {
                let limits = &spec.gateway.limits;
                if limits.shard_timeout > limits.handshake_timeout {
                    let remedy = format!("write at most handshakeTimeout ({})", limits.handshake_timeout);
                    found.push(Violation::new("spec.gateway.limits.shardTimeout", limits.shard_timeout, remedy));
                }
            },
        ),
        Rule::new(
            "spec.drain.retryAfter",
            "duration(self.min) <= duration(self.max)",
            "min must not be longer than max",
            |spec, found| {
                let hint = &spec.drain.retry_after;
                if hint.min > hint.max {
                    let remedy = format!("write at most retryAfter.max ({})", hint.max);
                    found.push(Violation::new("spec.drain.retryAfter.min", hint.min, remedy));
                }
            },
        ),
        Rule::new("spec.autoscale", "self.min <= self.max", "min must not be more than max", |spec, found| {
            if let Some(auto) = spec.autoscale.as_ref().filter(|a| a.min > a.max) {
                let remedy = format!("write at most autoscale.max ({})", auto.max);
                found.push(Violation::new("spec.autoscale.min", auto.min, remedy));
            }
        }),
    ]
    .into_iter()
}
