//! Checks that the gateway spreads clients over the shards.

use std::collections::BTreeMap;

use wscluster_admin::health::{GatewayHealth, percent};

use super::members::serves;
use super::report::Finding;

/// Differences up to this many connections are allowed, however few connections there are.
const ALLOWED: u32 = 3;

/// Checks that the shards hold about the same number of connections.
pub(crate) fn spread(health: &GatewayHealth, most_percent: f64) -> Finding {
    let ready: Vec<_> = health.shards.iter().filter(|shard| serves(shard)).collect();
    let (Some(most), Some(least)) =
        (ready.iter().max_by_key(|shard| shard.connections), ready.iter().min_by_key(|shard| shard.connections))
    else {
        return Finding::skipped("balance", "no shard is ready", "see the check `shards`");
    };
    let difference = most.connections - least.connections;
    let imbalance = percent(difference, most.connections);
    let numbers =
        format!("{} on {}, {} on {}: {imbalance:.1} %", most.connections, most.id, least.connections, least.id);
    if difference > ALLOWED && imbalance > most_percent {
        let remedy = "connections are never moved, so a restarted shard has fewer until new clients connect; if no shard \
                      restarted, compare its state and age_ms in the health answers of the gateways";
        return Finding::failed("balance", format!("{numbers}, allowed are {most_percent} %"), remedy);
    }
    Finding::ok("balance", numbers)
}

/// Checks that clients which connected one after another reached every shard that was due for one.
pub(crate) fn reached(before: &GatewayHealth, landed: &BTreeMap<String, u32>, clients: u32) -> Finding {
    let list = landed.iter().map(|(shard, count)| format!("{count} on {shard}")).collect::<Vec<_>>().join(", ");
    let numbers = format!("{clients} clients through the gateway: {list}");
    if let Some(stranger) = landed.keys().find(|name| !before.shards.iter().any(|shard| shard.id == **name)) {
        let remedy = "the gateway routes to other shards than the health answer lists: check both addresses";
        return Finding::failed("gateway", format!("{numbers}; {stranger} is not in .shards"), remedy);
    }
    // A shard that was clearly fuller than another one need not receive a client.
    let open = || before.shards.iter().filter(|shard| serves(shard) && shard.available_slots > clients);
    let least = open().map(|shard| shard.connections).min().unwrap_or(0);
    let due = |connections: u32| connections <= least + ALLOWED;
    match open().find(|shard| due(shard.connections) && !landed.contains_key(&shard.id)) {
        Some(shard) => Finding::failed(
            "gateway",
            format!("{numbers}; none on {}, which has {} free slots", shard.id, shard.available_slots),
            "check the gateway's log and metrics for that shard: does the gateway connect to it, does it refuse?",
        ),
        None => Finding::ok("gateway", numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::members::tests::deployment;
    use crate::verify::report::Verdict;

    fn landed(counts: &[u32]) -> BTreeMap<String, u32> {
        let each = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        each.map(|(n, &count)| (format!("prices-{n}"), count)).collect()
    }

    #[test]
    fn finds_an_imbalance_but_not_in_a_handful() {
        assert_eq!(spread(&deployment(&[3, 0, 0]), 10.0).verdict, Verdict::Ok);
        assert_eq!(spread(&deployment(&[40, 38, 37]), 10.0).verdict, Verdict::Ok);
        let finding = spread(&deployment(&[40, 38, 30]), 10.0);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert_eq!(finding.detail, "40 on prices-0, 30 on prices-2: 25.0 %, allowed are 10 %");
    }

    #[test]
    fn finds_a_shard_that_receives_no_client() {
        let finding = reached(&deployment(&[0, 0, 0]), &landed(&[12, 12, 0]), 24);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.detail.ends_with("none on prices-2, which has 100 free slots"), "{finding}");
        assert_eq!(reached(&deployment(&[0, 0, 0]), &landed(&[9, 9, 6]), 24).verdict, Verdict::Ok);
    }

    #[test]
    fn expects_no_client_on_a_shard_that_was_fuller() {
        assert_eq!(reached(&deployment(&[0, 0, 60]), &landed(&[12, 12, 0]), 24).verdict, Verdict::Ok);
    }

    #[test]
    fn finds_a_gateway_of_another_deployment() {
        let other = BTreeMap::from([("news-0".to_owned(), 24)]);
        assert!(reached(&deployment(&[0]), &other, 24).detail.ends_with("news-0 is not in .shards"));
    }
}
