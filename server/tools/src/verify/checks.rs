//! The checks in their order. Each later one builds on what an earlier one found; what cannot be looked at is skipped by name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wscluster_admin::client::get_json;
use wscluster_admin::health::GatewayHealth;

use super::client::{Client, Entrance};
use super::report::Finding;
use super::target::Target;
use super::{Args, balance, delivery, fields, full, members};

/// Clients through the gateway for each shard; enough that each shard gets one unless something is wrong.
const CLIENTS_PER_SHARD: u32 = 8;

/// Runs all checks; `tell` gets each finding as it is made.
pub(crate) async fn run(args: &Args, target: &Target, tell: &mut dyn FnMut(Finding)) {
    let within = args.timeout.0;
    let health = match get_json(&target.admin, "/health", within).await {
        Ok(health) => health,
        Err(error) => {
            let remedy = "check the address; a gateway has its /health on its admin port, not on the one for clients";
            return tell(Finding::failed("health", error.to_string(), remedy));
        }
    };
    tell(fields::check(&health));
    let first: GatewayHealth = match serde_json::from_value(health) {
        Ok(first) => first,
        Err(error) => {
            let remedy = "give the admin address of a gateway or of `wscluster local` of this version";
            return tell(Finding::failed("health", format!("not the health of a gateway: {error}"), remedy));
        }
    };
    // Clients that are just leaving must not be counted among those that stay.
    let before = quiet(target).await.unwrap_or(first);
    tell(members::shards(&before, target.expected));
    tell(members::capacity(&before, target.expected));

    let mut clients = straight(target, &before, within, tell).await;
    if let Some(gateway) = target.entrance(within) {
        quiet(target).await;
        through(&gateway, &before, &mut clients, tell).await;
    } else {
        tell(Finding::skipped("gateway", "no client went through a gateway", "give --gateway ws://HOST:PORT/ws"));
    }
    let held = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let all = before.checks.capacity.current + held;
    match settled(target, within, |now| now.checks.capacity.current >= all).await {
        Some(now) => tell(balance::spread(&now, args.max_imbalance)),
        None => tell(Finding::failed(
            "balance",
            format!("health never counted the {held} clients of this check"),
            "connections of the health answer must follow what the shards hold",
        )),
    }
    match &target.source {
        _ if clients.is_empty() => {
            tell(Finding::skipped("delivery", "no client is connected", "see the checks before"));
        }
        Some(source) => tell(delivery::check(source, &mut clients, within).await),
        None => {
            let remedy = "give --file and --kafka HOST:PORT, or --kafka, --topic and --channel";
            tell(Finding::skipped("delivery", "no broker or topic to publish to", remedy));
        }
    }
    returned("slots", target, within, clients, tell).await;
    if args.full {
        fill(args, target, tell).await;
    }
}

/// One client straight at each shard: is it the shard that the health answer says?
async fn straight(
    target: &Target,
    health: &GatewayHealth,
    within: Duration,
    tell: &mut dyn FnMut(Finding),
) -> Vec<Client> {
    let mut clients = Vec::new();
    let mut wrong = Vec::new();
    let mut full = 0;
    for shard in &health.shards {
        if shard.available_slots == 0 && members::serves(shard) {
            full += 1;
            continue;
        }
        let entrance = match target.shard(&shard.address, within) {
            Ok(entrance) => entrance,
            Err(error) => {
                wrong.push(format!("{}: {error}", shard.id));
                continue;
            }
        };
        match Client::open(&entrance).await {
            Ok(client) if client.shard == shard.id => clients.push(client),
            Ok(client) => wrong.push(format!("{} answers as {:?}, not {}", shard.address, client.shard, shard.id)),
            Err(error) => wrong.push(format!("{}: {error}", shard.id)),
        }
    }
    tell(if wrong.is_empty() {
        let skipped = if full > 0 { format!(" ({full} full, not asked)") } else { String::new() };
        Finding::ok("identity", format!("{} shards answer under their own names{skipped}", clients.len()))
    } else {
        let remedy = "shards are asked at the addresses in .shards: run this where they can be reached, \
                      in Kubernetes inside the cluster";
        Finding::failed("identity", wrong.join("; "), remedy)
    });
    clients
}

/// Clients through the gateway, one after the other.
async fn through(gateway: &Entrance, before: &GatewayHealth, clients: &mut Vec<Client>, tell: &mut dyn FnMut(Finding)) {
    let free: u32 = before.shards.iter().map(|shard| shard.available_slots).sum();
    let taken = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let shards = u32::try_from(before.shards.len()).unwrap_or(u32::MAX);
    let count = shards.saturating_mul(CLIENTS_PER_SHARD).min(free.saturating_sub(taken));
    if count == 0 {
        let detail = "no slot is free, so no client went through the gateway";
        return tell(Finding::skipped("gateway", detail, "verify with some free slots"));
    }
    let mut landed: BTreeMap<String, u32> = BTreeMap::new();
    for opened in 0..count {
        match Client::open(gateway).await {
            Ok(client) => {
                *landed.entry(client.shard.clone()).or_default() += 1;
                clients.push(client);
            }
            Err(error) => {
                let detail = format!("client {} of {count}: {error}", opened + 1);
                return tell(Finding::failed("gateway", detail, "look at the gateway's log: it names every refusal"));
            }
        }
    }
    tell(balance::reached(before, &landed, count));
}

/// Waits until nothing has changed for a while, but not for long: a gateway may still believe what was true before many clients
/// left at once, and would then be judged for choosing by it. Returns the last answer.
async fn quiet(target: &Target) -> Option<GatewayHealth> {
    const WHILE: Duration = Duration::from_millis(1_200);
    let (mut last, mut since) = (None::<GatewayHealth>, Instant::now());
    settled(target, 3 * WHILE, |now| {
        if last.replace(now.clone()).is_none_or(|last| last.checks.capacity.current != now.checks.capacity.current) {
            since = Instant::now();
        }
        since.elapsed() >= WHILE
    })
    .await;
    last
}

/// Asks for health until it `fits`; none when it never does.
async fn settled(
    target: &Target,
    within: Duration,
    mut fits: impl FnMut(&GatewayHealth) -> bool,
) -> Option<GatewayHealth> {
    let end = Instant::now() + within;
    loop {
        let now = get_json(&target.admin, "/health", within).await.ok();
        let now = now.and_then(|now| serde_json::from_value::<GatewayHealth>(now).ok());
        if let Some(now) = now.filter(&mut fits) {
            return Some(now);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Closes `clients` and waits until their slots are free again.
async fn returned(
    check: &'static str,
    target: &Target,
    within: Duration,
    clients: Vec<Client>,
    tell: &mut dyn FnMut(Finding),
) {
    let held = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let Some(peak) = settled(target, within, |_| true).await.map(|now| now.checks.capacity.current) else {
        return tell(Finding::failed(check, "no health answer", "see the check `health`"));
    };
    futures_util::future::join_all(clients.into_iter().map(Client::close)).await;
    let rest = peak.saturating_sub(held);
    tell(match settled(target, within, |now| now.checks.capacity.current <= rest).await {
        Some(now) => {
            let left = now.checks.capacity.current;
            Finding::ok(check, format!("all {held} came back after the clients left, {left} connections stay"))
        }
        None => Finding::failed(
            check,
            format!("connections did not fall from {peak} to {rest} after {held} clients left"),
            "other clients may have come meanwhile: verify a quiet deployment; else a slot is lost, report this",
        ),
    });
}

/// Fills the deployment, if it is small enough.
async fn fill(args: &Args, target: &Target, tell: &mut dyn FnMut(Finding)) {
    let within = args.timeout.0;
    let Some(gateway) = target.entrance(within) else {
        return tell(Finding::skipped("full", "no gateway to fill through", "give --gateway ws://HOST:PORT/ws"));
    };
    let Some(now) = settled(target, within, |_| true).await else {
        return tell(Finding::failed("full", "no health answer", "see the check `health`"));
    };
    let free: u32 = now.shards.iter().map(|shard| shard.available_slots).sum();
    if free > args.full_limit {
        let detail = format!("{free} slots are free, more than the {} that --full takes at most", args.full_limit);
        return tell(Finding::skipped(
            "full",
            detail,
            "start a copy with a small spec.capacity, or raise --full-limit",
        ));
    }
    // An upgrade may wait in the gateway's queue before it is refused.
    let patience = within + args.queue_timeout.0;
    let found = full::check(&gateway, &now, patience).await;
    found.findings.into_iter().for_each(&mut *tell);
    returned("release", target, within, found.clients, tell).await;
    tell(match Client::open(&gateway).await {
        Ok(client) => {
            let finding = Finding::ok("reopen", format!("a new client is served again, by {}", client.shard));
            client.close().await;
            finding
        }
        Err(error) => {
            Finding::failed("reopen", error.to_string(), "the deployment must recover from full: report this")
        }
    });
}
