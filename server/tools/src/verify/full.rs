//! `--full`: takes every free slot of a deployment, checks how the next client is refused, and releases the slots.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use wscluster_admin::health::GatewayHealth;

use super::client::{Client, Entrance};
use super::refusal::{self, Who};
use super::report::Finding;

/// Most clients that connect at the same time.
const AT_ONCE: usize = 32;

/// The findings in a full deployment, and the clients that fill it.
pub(crate) struct Full {
    /// Findings.
    pub(crate) findings: Vec<Finding>,
    /// Clients that hold the slots until they are closed.
    pub(crate) clients: Vec<Client>,
}

/// Takes every free slot of the deployment of `health`, then requests one more at the gateway and at every shard.
pub(crate) async fn check(gateway: &Entrance, health: &GatewayHealth, patience: Duration) -> Full {
    let free: u32 = health.shards.iter().map(|shard| shard.available_slots).sum();
    let opened = stream::iter(0..free).map(|_| Client::open(gateway)).buffer_unordered(AT_ONCE);
    let (clients, errors) = opened
        .fold((Vec::new(), Vec::new()), async |(mut clients, mut errors), opened| {
            match opened {
                Ok(client) => clients.push(client),
                Err(error) => errors.push(error.to_string()),
            }
            (clients, errors)
        })
        .await;
    let filled = match errors.first() {
        None => Finding::ok("fill", format!("all {free} free slots were granted through the gateway")),
        Some(error) => Finding::failed(
            "fill",
            format!(
                "{} of {free} free slots were granted; the first of {} errors: {error}",
                clients.len(),
                errors.len()
            ),
            "other clients may have connected meanwhile: verify a deployment without clients, or check the gateway's log",
        ),
    };
    let mut findings = vec![filled];
    findings.push(refused("refusal", gateway, Who::Gateway, patience).await);
    for shard in &health.shards {
        findings.push(match gateway.at(&shard.address) {
            Ok(entrance) => refused("refusal", &entrance, Who::Shard, patience).await,
            Err(error) => Finding::failed("refusal", error.to_string(), "check .shards of the health answer"),
        });
    }
    Full { findings, clients }
}

async fn refused(check: &'static str, entrance: &Entrance, who: Who, patience: Duration) -> Finding {
    let name = match who {
        Who::Gateway => format!("one more client at the gateway {}", entrance.endpoint.host),
        Who::Shard => format!("one more client directly at the shard {}", entrance.endpoint.host),
    };
    let judged = match refusal::ask(entrance, patience).await {
        Ok(answer) => refusal::judge(&answer, who),
        Err(error) => Err(error),
    };
    match judged {
        Ok(reason) if reason == refusal::FD_LIMIT => Finding::failed(
            check,
            format!("{name}: 503 {reason}: it is out of file descriptors before it is full"),
            "raise the limit of open files of that process (ulimit -n, LimitNOFILE) above its capacity, twice above it for \
             a gateway",
        ),
        Ok(reason) => Finding::ok(check, format!("{name}: 503 {reason} with Retry-After")),
        Err(fault) => {
            Finding::failed(check, format!("{name}: {fault}"), "a full deployment must answer 503: report this")
        }
    }
}
