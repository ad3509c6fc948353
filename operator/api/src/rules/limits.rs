//! Smallest and largest values of durations and sizes. Plain numbers have theirs in the schema, beside the field.

use super::Rule;
use crate::WsClusterSpec;
use crate::units::{Size, Span};
use crate::violation::Violation;

type Of<T> = fn(&WsClusterSpec) -> T;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// Field, smallest value, largest value, and accessor.
const SPANS: [(&str, Span, Span, Of<Span>); 14] = [
    ("spec.source.kafka.history.window", Span::secs(0), Span::secs(24 * HOUR), |s| s.source.kafka.history.window),
    ("spec.delivery.pingInterval", Span::secs(1), Span::secs(HOUR), |s| s.delivery.ping_interval),
    ("spec.delivery.pongTimeout", Span::secs(1), Span::secs(2 * HOUR), |s| s.delivery.pong_timeout),
    ("spec.delivery.coalesce", Span::millis(0), Span::secs(1), |s| s.delivery.coalesce),
    ("spec.gateway.queue.timeout", Span::secs(0), Span::secs(10 * MINUTE), |s| s.gateway.queue.timeout),
    ("spec.gateway.limits.headTimeout", Span::millis(100), Span::secs(5 * MINUTE), |s| s.gateway.limits.head_timeout),
    ("spec.gateway.limits.handshakeTimeout", Span::millis(100), Span::secs(5 * MINUTE), |s| {
        s.gateway.limits.handshake_timeout
    }),
    ("spec.gateway.limits.shardTimeout", Span::millis(10), Span::secs(5 * MINUTE), |s| s.gateway.limits.shard_timeout),
    ("spec.drain.deadline", Span::secs(0), Span::secs(24 * HOUR), |s| s.drain.deadline),
    ("spec.drain.retryAfter.max", Span::millis(0), Span::secs(10 * MINUTE), |s| s.drain.retry_after.max),
    // Without `autoscale`, values within the range stand in.
    ("spec.autoscale.scaleUp.lead", Span::secs(0), Span::secs(HOUR), |s| {
        s.autoscale.as_ref().map_or(Span::secs(0), |auto| auto.scale_up.lead)
    }),
    ("spec.autoscale.scaleUp.window", Span::secs(1), Span::secs(HOUR), |s| {
        s.autoscale.as_ref().map_or(Span::secs(1), |auto| auto.scale_up.window)
    }),
    ("spec.autoscale.scaleDown.window", Span::secs(0), Span::secs(24 * HOUR), |s| {
        s.autoscale.as_ref().map_or(Span::secs(0), |auto| auto.scale_down.window)
    }),
    ("spec.autoscale.scaleDown.interval", Span::secs(0), Span::secs(24 * HOUR), |s| {
        s.autoscale.as_ref().map_or(Span::secs(0), |auto| auto.scale_down.interval)
    }),
];

/// Field, smallest value, largest value, and accessor.
const SIZES: [(&str, Size, Size, Of<Size>); 4] = [
    ("spec.source.kafka.history.maxBytes", Size(0), Size(64 << 30), |s| s.source.kafka.history.max_bytes),
    ("spec.delivery.maxQueueBytes", Size(1 << 10), Size(1 << 30), |s| s.delivery.max_queue_bytes),
    ("spec.delivery.maxMessageBytes", Size(128), Size(64 << 20), |s| s.delivery.max_message_bytes),
    ("spec.gateway.limits.maxHeadBytes", Size(512), Size(1 << 20), |s| s.gateway.limits.max_head_bytes),
];

pub(super) fn rules() -> impl Iterator<Item = Rule> {
    let spans = SPANS.into_iter().map(|(field, min, max, of)| {
        let cel = format!("duration(self) >= duration('{min}') && duration(self) <= duration('{max}')");
        between(field, cel, min, max, of)
    });
    let sizes = SIZES.into_iter().map(|(field, min, max, of)| {
        // `string` first, because the field may be a number or a string.
        let of_self = "quantity(string(self)).compareTo(quantity";
        let cel = format!("{of_self}('{min}')) >= 0 && {of_self}('{max}')) <= 0");
        between(field, cel, min, max, of)
    });
    spans.chain(sizes)
}

fn between<T>(field: &'static str, cel: String, min: T, max: T, of: Of<T>) -> Rule
where
    T: std::fmt::Display + PartialOrd + Copy + Send + Sync + 'static,
{
    let name = field.rsplit('.').next().unwrap_or(field);
    Rule::new(field, cel, format!("{name} must be from {min} to {max}"), move |spec, found| {
        let value = of(spec);
        if value < min || value > max {
            found.push(Violation::new(field, value, format!("write {min} to {max}")));
        }
    })
}
