//! Formats a gateway's health answer as a table.

use std::fmt::Write as _;
use std::time::Duration;

use wscluster_admin::health::GatewayHealth;

/// Characters of a shard's bar.
const BAR: usize = 20;

/// Two lines of totals, then one line per shard.
pub(crate) fn of(health: &GatewayHealth) -> String {
    let GatewayHealth { status, reason, tunnels, queued, checks, shards, imbalance_percent, uptime, .. } = health;
    let up = Duration::from_secs(*uptime as u64);
    let mut text = status.to_string();
    let (used, all, share) = (checks.capacity.current, checks.capacity.max, checks.capacity.percentage);
    write!(text, ", {used} of {all} connections ({share:.1} %), imbalance {imbalance_percent:.1} %, cpu {:.0} %, memory {:.0} MiB", checks.cpu.percentage, checks.memory.bytes as f64 / f64::from(1 << 20)).expect("a String takes everything");
    writeln!(text, ", kafka {} lag {}", checks.kafka.status, checks.kafka.lag).expect("a String takes everything");
    writeln!(text, "this gateway: {tunnels} tunnels, {queued} waiting, up {up:?}").expect("a String takes everything");
    for trouble in [reason, &checks.kafka.error].into_iter().flatten() {
        writeln!(text, "! {trouble}").expect("a String takes everything");
    }
    let width = shards.iter().map(|shard| shard.id.len()).max().unwrap_or(0).max("SHARD".len());
    writeln!(
        text,
        "\n{:<width$}  {:<11}  {:>11}  {:>8}  {:>6}  {:BAR$}  {:>6}  ADDRESS",
        "SHARD", "STATE", "CONNECTIONS", "CAPACITY", "USED", "", "AGE"
    )
    .expect("a String takes everything");
    for shard in shards {
        let used = format!("{:.1}%", shard.utilization);
        let cells = ((shard.utilization / 100.0 * BAR as f64).round() as usize).min(BAR);
        let bar = "#".repeat(cells) + &".".repeat(BAR - cells);
        let age = format!("{:.1}s", shard.age_ms as f64 / 1_000.0);
        writeln!(
            text,
            "{:<width$}  {:<11}  {:>11}  {:>8}  {used:>6}  {bar}  {age:>6}  {}",
            shard.id, shard.state, shard.connections, shard.max_connections, shard.address
        )
        .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shows_totals_troubles_and_every_shard() {
        let shard = |id: &str, state: &str, connections: u32| {
            json!({ "id": id, "address": "10.0.0.1:8080", "state": state, "connections": connections, "max_connections": 6000,
                "available_slots": 6000 - connections, "utilization": f64::from(connections) / 60.0, "age_ms": 240 })
        };
        let health = json!({
            "status": "degraded", "healthy": true, "incarnation": "a", "tunnels": 4500, "queued": 2, "imbalance_percent": 50.0, "uptime": 61.5,
            "checks": { "capacity": { "current": 4500, "max": 12000, "percentage": 37.5 }, "cpu": { "percentage": 12.4 },
                "memory": { "percentage": 1.0, "bytes": 31_457_280, "limit_bytes": 0 },
                "kafka": { "status": "disconnected", "lag": 7, "error": "all brokers are down" } },
            "shards": [shard("prices-0", "ready", 3000), shard("prices-1", "unreachable", 1500)],
        });
        let text = of(&serde_json::from_value(health).unwrap());
        assert_eq!(
            text,
            "degraded, 4500 of 12000 connections (37.5 %), imbalance 50.0 %, cpu 12 %, memory 30 MiB, kafka disconnected lag 7\n\
             this gateway: 4500 tunnels, 2 waiting, up 61s\n\
             ! all brokers are down\n\n\
             SHARD     STATE        CONNECTIONS  CAPACITY    USED                           AGE  ADDRESS\n\
             prices-0  ready               3000      6000   50.0%  ##########..........    0.2s  10.0.0.1:8080\n\
             prices-1  unreachable         1500      6000   25.0%  #####...............    0.2s  10.0.0.1:8080\n"
        );
    }
}
