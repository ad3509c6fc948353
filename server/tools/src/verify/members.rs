//! Checks that the deployment has the declared shards, each with the declared capacity.

use std::collections::BTreeSet;

use wscluster_admin::health::{GatewayHealth, ShardView};

use super::report::Finding;

/// The declaration. Undeclared numbers are only reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Number of shards.
    pub(crate) shards: Option<u32>,
    /// Connections a shard may hold.
    pub(crate) capacity: Option<u32>,
}

/// Whether a shard serves clients: it grants slots, or is full.
pub(crate) fn serves(shard: &ShardView) -> bool {
    shard.state.is_serving()
}

/// Checks that all shards are present, distinct and ready.
pub(crate) fn shards(health: &GatewayHealth, expected: Expected) -> Finding {
    let all = &health.shards;
    let list = all.iter().map(|shard| format!("{} {}", shard.id, shard.state)).collect::<Vec<_>>().join(", ");
    if let Some(declared) = expected.shards
        && u32::try_from(all.len()) != Ok(declared)
    {
        let detail = format!("{} shards where {declared} are declared: {list}", all.len());
        return Finding::failed("shards", detail, "compare spec.shards with what was started");
    }
    // Two names for one process would look like two shards.
    for (what, distinct) in [
        ("names", all.iter().map(|shard| &*shard.id).collect::<BTreeSet<_>>().len()),
        ("addresses", all.iter().map(|shard| &*shard.address).collect::<BTreeSet<_>>().len()),
    ] {
        if distinct != all.len() {
            let detail = format!("{} shards have only {distinct} different {what}: {list}", all.len());
            return Finding::failed("shards", detail, "give every shard a process, a name and an address of its own");
        }
    }
    let ready = all.iter().filter(|shard| serves(shard)).count();
    if ready < all.len() || all.is_empty() {
        let detail = format!("{ready} of {} ready: {list}", all.len());
        return Finding::failed("shards", detail, "check the log and the /health of the shards that are not ready");
    }
    let declared = if expected.shards.is_some() { " as declared" } else { " (no number declared)" };
    Finding::ok("shards", format!("{ready} of {} ready{declared}: {list}", all.len()))
}

/// Checks that every shard has the declared capacity and that the health answer has the right sum.
pub(crate) fn capacity(health: &GatewayHealth, expected: Expected) -> Finding {
    let sum: u64 = health.shards.iter().map(|shard| u64::from(shard.max_connections)).sum();
    let reported = u64::from(health.checks.capacity.max);
    if sum != reported {
        let detail = format!(".checks.capacity.max is {reported}, the shards hold {sum}");
        return Finding::failed("capacity", detail, "try again: the gateway may not have polled every shard yet");
    }
    let over: Vec<_> = health.shards.iter().filter(|shard| shard.connections > shard.max_connections).collect();
    if let Some(shard) = over.first() {
        let detail = format!("{} holds {} of {} connections", shard.id, shard.connections, shard.max_connections);
        return Finding::failed("capacity", detail, "a shard must never hold more than its capacity: report this");
    }
    if let Some(declared) = expected.capacity
        && let Some(shard) = health.shards.iter().find(|shard| shard.max_connections != declared)
    {
        let detail =
            format!("{} may hold {} connections where {declared} are declared", shard.id, shard.max_connections);
        return Finding::failed("capacity", detail, "restart that shard with the current manifest");
    }
    Finding::ok("capacity", format!("{sum} connections, {} each", each(health)))
}

fn each(health: &GatewayHealth) -> String {
    let distinct: BTreeSet<u32> = health.shards.iter().map(|shard| shard.max_connections).collect();
    distinct.iter().map(u32::to_string).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
pub(crate) mod tests {
    use wscluster_admin::health::{Checks, Status, ViewState};

    use super::*;
    use crate::verify::report::Verdict;

    /// A healthy deployment of shards with these connections, 100 slots each.
    pub(crate) fn deployment(connections: &[u32]) -> GatewayHealth {
        let view = |(n, &connections): (usize, &u32)| ShardView {
            id: format!("prices-{n}"),
            address: format!("127.0.0.1:{}", 9_000 + n),
            state: ViewState::Ready,
            connections,
            max_connections: 100,
            available_slots: 100 - connections,
            utilization: f64::from(connections),
            age_ms: 1,
        };
        let shards: Vec<_> = connections.iter().enumerate().map(view).collect();
        let mut checks = Checks::default();
        checks.capacity.max = 100 * shards.len() as u32;
        checks.capacity.current = connections.iter().sum();
        GatewayHealth {
            status: Status::Healthy,
            healthy: true,
            reason: None,
            state: wscluster_admin::health::State::Ready,
            incarnation: "1".into(),
            tunnels: 0,
            queued: 0,
            checks,
            shards,
            discovery: None,
            imbalance_percent: 0.0,
            uptime: 1.0,
        }
    }

    const DECLARED: Expected = Expected { shards: Some(3), capacity: Some(100) };

    #[test]
    fn accepts_the_declared_deployment() {
        let health = deployment(&[1, 2, 3]);
        assert_eq!(shards(&health, DECLARED).verdict, Verdict::Ok);
        assert_eq!(capacity(&health, DECLARED), Finding::ok("capacity", "300 connections, 100 each"));
    }

    #[test]
    fn finds_a_deployment_that_did_not_start_sharded() {
        let finding = shards(&deployment(&[0]), DECLARED);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.detail.starts_with("1 shards where 3 are declared"), "{finding}");
    }

    #[test]
    fn finds_one_process_under_several_names() {
        let mut health = deployment(&[0, 0, 0]);
        health.shards[2].address = health.shards[1].address.clone();
        let finding = shards(&health, DECLARED);
        assert!(finding.detail.starts_with("3 shards have only 2 different addresses"), "{finding}");
    }

    #[test]
    fn finds_a_shard_that_is_not_ready() {
        let mut health = deployment(&[0, 0, 0]);
        health.shards[1].state = ViewState::Starting;
        let finding = shards(&health, DECLARED);
        assert!(finding.detail.starts_with("2 of 3 ready") && finding.verdict == Verdict::Failed, "{finding}");
        health.shards.clear();
        assert_eq!(shards(&health, Expected::default()).verdict, Verdict::Failed, "no shard at all");
    }

    #[test]
    fn finds_capacity_that_was_not_declared_or_is_exceeded() {
        let other = Expected { capacity: Some(6_000), ..DECLARED };
        assert_eq!(capacity(&deployment(&[0; 3]), other).verdict, Verdict::Failed);
        let mut health = deployment(&[0; 3]);
        health.shards[0].connections = 101;
        assert!(capacity(&health, DECLARED).detail.contains("holds 101 of 100"));
        health = deployment(&[0; 3]);
        health.checks.capacity.max = 200;
        assert!(capacity(&health, DECLARED).detail.contains("the shards hold 300"));
    }
}
