//! Runs the checks in order. Later checks use the results of earlier ones; a check that cannot run is reported as
//! skipped.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wscluster_admin::client::AdminClient;
use wscluster_admin::health::GatewayHealth;

use super::client::{Client, Entrance};
use super::report::Finding;
use super::target::Target;
use super::{Args, balance, delivery, fields, full, members};

/// Clients through the gateway per shard: enough that each shard of a correct deployment receives one.
const CLIENTS_PER_SHARD: u32 = 8;

/// Runs all checks and passes each finding to `tell`.
pub(crate) async fn run(args: &Args, target: &Target, tell: &mut dyn FnMut(Finding)) {
    let within = args.timeout.0;
    // As plain JSON first: a missing field must be named.
    let health: serde_json::Value = match AdminClient::new(within).health(&target.admin).await {
        Ok(health) => health,
        Err(error) => {
            let remedy = "check the address; a gateway serves /health on its admin port, not on the port for clients";
            return tell(Finding::failed("health", error.to_string(), remedy));
        }
    };
    tell(fields::check(&health));
    let first: GatewayHealth = match serde_json::from_value(health) {
        Ok(first) => first,
        Err(error) => {
            let remedy = "use the admin address of a gateway or of `wscluster local` of this version";
            return tell(Finding::failed("health", format!("not the health of a gateway: {error}"), remedy));
        }
    };
    // Connections that are closing must not count.
    let before = quiet(target).await.unwrap_or(first);
    tell(members::shards(&before, target.expected));
    tell(members::capacity(&before, target.expected));

    let mut clients = direct(target, &before, within, tell).await;
    if let Some(gateway) = target.entrance(within) {
        quiet(target).await;
        through(&gateway, &before, &mut clients, tell).await;
    } else {
        tell(Finding::skipped("gateway", "no gateway to connect through", "add --gateway ws://HOST:PORT/ws"));
    }
    let held = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let all = before.checks.capacity.current + held;
    match settled(target, within, |now| now.checks.capacity.current >= all).await {
        Some(now) => tell(balance::spread(&now, args.max_imbalance)),
        None => tell(Finding::failed(
            "balance",
            format!("the health answer never counted the {held} clients of this check"),
            "the health answer must count the connections of the shards: report this",
        )),
    }
    match &target.source {
        _ if clients.is_empty() => {
            tell(Finding::skipped("delivery", "no client is connected", "see the checks above"));
        }
        Some(source) => tell(delivery::check(source, &mut clients, within).await),
        None => {
            let remedy = "add --file and --kafka HOST:PORT, or --kafka, --topic and --channel";
            tell(Finding::skipped("delivery", "no broker or topic to publish to", remedy));
        }
    }
    returned("slots", target, within, clients, tell).await;
    if args.full {
        fill(args, target, tell).await;
    }
}

/// Connects one client directly to each shard and checks the shard's name.
async fn direct(
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
        let skipped = if full > 0 { format!(" ({full} full, not checked)") } else { String::new() };
        Finding::ok("identity", format!("{} shards answer under their own names{skipped}", clients.len()))
    } else {
        let remedy = "this check connects to the addresses in .shards: run it where they can be reached, in Kubernetes \
                      inside the cluster";
        Finding::failed("identity", wrong.join("; "), remedy)
    });
    clients
}

/// Connects clients through the gateway, one after another.
async fn through(gateway: &Entrance, before: &GatewayHealth, clients: &mut Vec<Client>, tell: &mut dyn FnMut(Finding)) {
    let free: u32 = before.shards.iter().map(|shard| shard.available_slots).sum();
    let taken = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let shards = u32::try_from(before.shards.len()).unwrap_or(u32::MAX);
    let count = shards.saturating_mul(CLIENTS_PER_SHARD).min(free.saturating_sub(taken));
    if count == 0 {
        let detail = "no slot is free, so no client could connect through the gateway";
        return tell(Finding::skipped("gateway", detail, "verify while some slots are free"));
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
                return tell(Finding::failed("gateway", detail, "check the gateway's log: it contains every refusal"));
            }
        }
    }
    tell(balance::reached(before, &landed, count));
}

/// Waits until the number of connections has been stable for a while, with a short limit. Returns the last answer.
/// After many clients left at once, a gateway may choose shards by outdated numbers for a moment; that must not count
/// as a fault.
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

/// Polls the health until it `fits`; `None` if it does not within the limit.
async fn settled(
    target: &Target,
    within: Duration,
    mut fits: impl FnMut(&GatewayHealth) -> bool,
) -> Option<GatewayHealth> {
    let admin = AdminClient::new(within);
    let end = Instant::now() + within;
    loop {
        let now: Option<GatewayHealth> = admin.health(&target.admin).await.ok();
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
            Finding::ok(check, format!("all {held} are free after the clients left, {left} connections remain"))
        }
        None => Finding::failed(
            check,
            format!("connections did not fall from {peak} to {rest} after {held} clients left"),
            "other clients may have connected meanwhile: verify a deployment without clients; otherwise a slot is lost, \
             report this",
        ),
    });
}

/// Runs `--full` if the deployment has few enough free slots.
async fn fill(args: &Args, target: &Target, tell: &mut dyn FnMut(Finding)) {
    let within = args.timeout.0;
    let Some(gateway) = target.entrance(within) else {
        return tell(Finding::skipped("full", "no gateway to connect through", "add --gateway ws://HOST:PORT/ws"));
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
    // An upgrade may wait in the gateway's queue before the refusal.
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
