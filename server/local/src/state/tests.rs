use serde_json::{Value, json};
use wscluster_admin::health::{ShardHealth, Status};

use super::*;

fn not_started() -> RunState {
    let at = Addresses { ws: "127.0.0.1:1".parse().unwrap(), admin: "127.0.0.1:1".parse().unwrap() };
    let mut state = RunState::new(100);
    // Out of order: the state sorts by ordinal.
    state.add(Part::Shard, 1, &"prices-1".into(), at);
    state.add(Part::Shard, 0, &"prices-0".into(), at);
    state.add(Part::Gateway, 0, &"gateway-0".into(), at);
    state
}

fn now() -> Instant {
    Instant::now()
}

fn listening(state: &mut RunState, name: &str, pid: u32) {
    let at = "127.0.0.1:1".parse().unwrap();
    state.listens(&ListeningChild { name: name.into(), pid, ws: at, admin: at, restarts: 0 });
}

fn shard(state: &str, connections: u32) -> ShardHealth {
    serde_json::from_value(json!({
        "status": "healthy", "healthy": true, "state": state, "shard": "x", "incarnation": "1", "revision": "",
        "connections": connections, "capacity": 100, "available": 100 - connections, "utilization": 0.0, "uptime": 1.0,
        "checks": {
            "capacity": { "current": connections, "max": 100, "percentage": 0.0 }, "cpu": { "percentage": 1.5 },
            "memory": { "percentage": 1.0, "bytes": 10, "limit_bytes": 1000 },
            "kafka": { "status": "connected", "lag": 0 }
        }
    }))
    .unwrap()
}

fn gateway(states: [&str; 2]) -> GatewayHealth {
    let view = |(n, state): (usize, &str)| {
        json!({ "id": format!("prices-{n}"), "address": "127.0.0.1:1", "state": state, "connections": 0,
            "max_connections": 100, "available_slots": 100, "utilization": 0.0, "age_ms": 1 })
    };
    let shards: Vec<Value> = states.into_iter().enumerate().map(view).collect();
    let mut health = json!({ "status": "healthy", "healthy": true, "incarnation": "1", "tunnels": 3, "queued": 1,
        "imbalance_percent": 0.0, "uptime": 1.0 });
    health["shards"] = shards.into();
    health["checks"] = serde_json::to_value(wscluster_admin::health::Checks::default()).unwrap();
    serde_json::from_value(health).unwrap()
}

fn ready(connections: [u32; 2]) -> RunState {
    let mut state = not_started();
    for (pid, name) in [(10, "prices-0"), (11, "prices-1"), (12, "gateway-0")] {
        listening(&mut state, name, pid);
    }
    state.shard_answered("prices-0", Some(10), now(), Some(shard("ready", connections[0])));
    state.shard_answered("prices-1", Some(11), now(), Some(shard("ready", connections[1])));
    state.gateway_answered("gateway-0", Some(12), now(), Some(gateway(["ready", "ready"])));
    state
}

#[test]
fn names_every_child_that_is_missing() {
    let mut state = not_started();
    listening(&mut state, "prices-1", 11);
    state.shard_answered("prices-1", Some(11), now(), Some(shard("starting", 0)));
    assert_eq!(
        state.reasons(),
        [
            "prices-0 is not running",
            "prices-1 is starting (Kafka connected, 0 records behind)",
            "gateway-0 is not running"
        ]
    );
    assert_eq!((state.missing(), state.status()), (state.reasons(), Status::Unhealthy));
}

#[test]
fn is_ready_only_when_the_gateways_see_the_shards() {
    let mut state = ready([0, 0]);
    assert_eq!(state.status(), Status::Healthy);
    state.gateway_answered("gateway-0", Some(12), now(), Some(gateway(["ready", "unreachable"])));
    assert_eq!(state.reasons(), ["gateway-0 does not see prices-1 as ready"]);
    assert_eq!((state.missing(), state.status()), (state.reasons(), Status::Degraded));
}

#[test]
fn discards_the_health_of_a_shard_that_ended() {
    let mut state = ready([5, 5]);
    state.ended("prices-0");
    assert_eq!(state.connections(), 5);
    state.shard_answered("prices-0", Some(10), now(), Some(shard("ready", 5)));
    assert_eq!(state.connections(), 5, "a late answer of the process that ended does not count");
    listening(&mut state, "prices-0", 20);
    state.shard_answered("prices-0", Some(10), now(), Some(shard("ready", 5)));
    assert_eq!(state.connections(), 5, "a late answer does not count for its successor");
    state.shard_answered("prices-0", Some(20), now(), Some(shard("ready", 1)));
    assert_eq!(state.connections(), 6);
}

#[test]
fn sums_health_over_the_cluster() {
    let mut state = ready([40, 30]);
    let health = serde_json::to_value(state.health()).unwrap();
    assert_eq!(health["checks"]["capacity"], json!({ "current": 70, "max": 200, "percentage": 35.0 }));
    assert_eq!(health["checks"]["cpu"]["percentage"], 3.0);
    assert_eq!(health["checks"]["memory"]["percentage"], 2.0);
    assert_eq!(health["imbalance_percent"], 25.0);
    assert_eq!((health["tunnels"].as_u64(), health["queued"].as_u64()), (Some(3), Some(1)));
    assert_eq!(health["shards"][1]["connections"], 30);
    let processes = &health["processes"];
    assert_eq!((&processes[0]["id"], &processes[0]["part"]), (&json!("prices-0"), &json!("shard")));
    assert_eq!((&processes[2]["pid"], &processes[2]["part"]), (&json!(12), &json!("gateway")));
    assert_eq!(health.get("waiting"), None);
    state.set_waiting(Some("2 slots are missing".into()));
    let health = serde_json::to_value(state.health()).unwrap();
    assert_eq!((&health["waiting"], &health["status"]), (&json!("2 slots are missing"), &json!("healthy")));
}

#[test]
fn counts_the_declared_capacity_of_a_shard_that_ended() {
    let mut state = ready([40, 30]);
    state.ended("prices-0");
    let health = serde_json::to_value(state.health()).unwrap();
    assert_eq!(health["checks"]["capacity"]["max"], 200);
    assert_eq!(health["shards"][0]["state"], "unreachable");
    assert_eq!(health["shards"][0]["available_slots"], 0);
    assert_eq!(health["status"], "degraded");
}

#[test]
fn reports_the_problem_that_a_process_reports_of_itself() {
    let mut state = ready([0, 0]);
    let fd_limit = "open files: 1,024 of 1,024; raise the limit (ulimit -n)";
    let lacking = ShardHealth { status: Status::Degraded, reason: Some(fd_limit.into()), ..shard("ready", 0) };
    state.shard_answered("prices-1", Some(11), now(), Some(lacking));
    assert_eq!(state.reasons(), [format!("prices-1 is degraded: {fd_limit}")]);
    assert_eq!(state.missing(), [""; 0], "the child serves");
    let health = serde_json::to_value(state.health()).unwrap();
    assert_eq!(health["reason"], format!("prices-1: {fd_limit}"));
    assert_eq!(health["status"], "degraded");

    let mut state = ready([0, 0]);
    let lacking = GatewayHealth { reason: Some(fd_limit.into()), ..gateway(["ready", "ready"]) };
    state.gateway_answered("gateway-0", Some(12), now(), Some(lacking));
    assert_eq!(state.reasons(), [format!("gateway-0: {fd_limit}")]);
    assert_eq!(state.missing(), [""; 0], "the child serves");
    assert_eq!(serde_json::to_value(state.health()).unwrap()["reason"], format!("gateway-0: {fd_limit}"));
}

#[test]
fn drained_gateway_is_a_problem_although_it_runs() {
    let mut state = ready([0, 0]);
    let drained = GatewayHealth { state: State::Draining, ..gateway(["ready", "ready"]) };
    state.gateway_answered("gateway-0", Some(12), now(), Some(drained));
    assert_eq!(state.reasons(), ["gateway-0 is draining"]);
    let health = serde_json::to_value(state.health()).unwrap();
    assert_eq!((&health["status"], &health["state"]), (&json!("degraded"), &json!("draining")));
    assert!(state.is_draining("gateway-0", None));
    assert!(
        !state.is_draining("gateway-0", Some(now() + Duration::from_secs(1))),
        "the answer is older than the order"
    );
}

#[test]
fn child_hangs_after_a_long_time_and_many_polls_without_an_answer() {
    let mut state = ready([0, 0]);
    let (soon, late) = (Instant::now() + Duration::from_secs(35), Instant::now() + Duration::from_secs(41));
    assert_eq!(state.hung(late).len(), 0, "not polled: this process may have been stopped");
    for _ in 0..MISSED {
        state.shard_answered("prices-1", Some(11), now(), None);
    }
    assert_eq!(state.hung(soon).len(), 0, "half a minute is tolerated");
    let hung = state.hung(late);
    assert_eq!((&*hung[0].0, hung[0].1.pid, hung.len()), ("prices-1", 11, 1));
    state.shard_answered("prices-1", Some(11), now(), Some(shard("ready", 0)));
    assert_eq!(state.hung(late).len(), 0);
    for _ in 0..MISSED {
        state.shard_answered("prices-1", Some(11), now(), None);
    }
    state.ended("prices-1");
    assert_eq!(state.hung(late).len(), 0, "only a running process hangs");
}

#[test]
fn child_that_was_asked_to_end_is_not_missing() {
    let mut state = ready([5, 5]);
    state.leaves("prices-1", true);
    state.ended("prices-1");
    state.gateway_answered("gateway-0", Some(12), now(), Some(gateway(["ready", "unreachable"])));
    assert_eq!(state.reasons(), ["prices-1 is shutting down"]);
    state.remove("prices-1");
    assert_eq!((state.status(), state.shards().len(), state.connections()), (Status::Healthy, 1, 5));
    state.leaves("gateway-0", true);
    assert_eq!(state.status(), Status::Unhealthy, "no other gateway takes clients");
}

#[test]
fn failing_shard_is_failing_until_it_is_ready() {
    let mut state = ready([0, 0]);
    state.fails("prices-1");
    state.ended("prices-1");
    listening(&mut state, "prices-1", 30);
    state.shard_answered("prices-1", Some(30), now(), Some(shard("starting", 0)));
    assert!(state.shards()[1].is_failing && !state.shards()[1].was_ready);
    state.shard_answered("prices-1", Some(30), now(), Some(shard("ready", 0)));
    assert!(!state.shards()[1].is_failing && state.shards()[1].was_ready);
}
