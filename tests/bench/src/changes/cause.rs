//! The changes and failures that a run goes through.

use clap::ValueEnum;
use rustix::process::Signal;
use serde_json::{Value, json};
use wscluster_admin::health::Status;

use super::stage::Stage;
use super::{Args, BACK, ten_edits};
use crate::error::Result;
use crate::local::{Load, Verdict};
use crate::ours::Manifest;

/// A change or failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Cause {
    /// More shards, then fewer.
    Scale,
    /// A field that shards read.
    ShardConfig,
    /// A value with which no shard starts, reverted afterwards.
    BadConfig,
    /// A field that gateways read.
    GatewayRollout,
    /// Ten edits in a minute.
    TenEdits,
    /// Clients arrive, and some of them leave.
    Autoscale,
    /// More shards, to which clients move.
    Rebalance,
    /// A shard is killed.
    ShardKill,
    /// A shard is stopped by SIGSTOP until the run kills it.
    ShardStop,
    /// A gateway is killed.
    GatewayKill,
}

/// Allowed difference between the emptiest and the fullest shard, in percent of the fullest.
const MAX_IMBALANCE: u8 = 20;

/// Further clients, which leave.
const CROWD: u32 = 200;

/// New clients per second if the number of shards must follow them.
const SLOW: u32 = 25;

impl Cause {
    /// All causes, in the order of the report.
    pub(super) const ALL: [Self; 10] = [
        Self::Scale,
        Self::ShardConfig,
        Self::BadConfig,
        Self::GatewayRollout,
        Self::TenEdits,
        Self::Autoscale,
        Self::Rebalance,
        Self::ShardKill,
        Self::ShardStop,
        Self::GatewayKill,
    ];

    /// Name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Name in the report.
    pub(super) fn text(self) -> String {
        match self {
            Self::Scale => "scale 3→5→2".to_owned(),
            Self::ShardConfig => "new shard configuration".to_owned(),
            Self::BadConfig => "shard configuration that cannot start, then taken back".to_owned(),
            Self::GatewayRollout => "gateway rollout".to_owned(),
            Self::TenEdits => "spec edited ten times in a minute".to_owned(),
            Self::Autoscale => format!("autoscale 3→5→3: all arrive at {SLOW}/s, {CROWD} leave"),
            Self::Rebalance => "scale 2→4 with rebalance".to_owned(),
            Self::ShardKill => "shard kill -9".to_owned(),
            Self::ShardStop => "shard SIGSTOP, until the run ends it".to_owned(),
            Self::GatewayKill => "gateway kill -9".to_owned(),
        }
    }

    /// Whether connections are closed at a declared rate.
    pub(super) fn is_planned(self) -> bool {
        !matches!(self, Self::ShardKill | Self::ShardStop | Self::GatewayKill)
    }

    /// The manifest of its run: two shards have slots for 320.
    pub(super) fn manifest(self) -> Value {
        let shards = if self == Self::Rebalance { 2 } else { 3 };
        let mut manifest = Manifest { shards, capacity: 160, gateways: 2, ..Manifest::default() }.json();
        let spec = &mut manifest["spec"];
        spec["drain"] = json!({ "evictRate": 50, "deadline": "60s", "retryAfter": { "min": "100ms", "max": "1s" } });
        if self == Self::Autoscale {
            spec["autoscale"] = json!({
                "min": 3, "max": 5, "targetUtilization": 70,
                "scaleUp": { "window": "5s", "lead": "2s" }, "scaleDown": { "window": "5s", "interval": "0s" },
            });
        }
        manifest
    }

    /// New clients per second.
    pub(super) fn ramp(self) -> u32 {
        if self == Self::Autoscale { SLOW } else { 200 }
    }

    /// Clients that connect before the others, and leave.
    pub(super) fn crowd(self) -> Option<u32> {
        (self == Self::Autoscale).then_some(CROWD)
    }

    /// Applies the cause and returns when it is over. Returns the verdict on the clients that left, if there were any.
    pub(super) async fn happen(self, args: &Args, stage: &mut Stage, crowd: Option<Load>) -> Result<Option<Verdict>> {
        match self {
            Self::Scale => {
                stage.apply(&[("/shards", json!(5))]).await?;
                stage.apply(&[("/shards", json!(2))]).await?;
            }
            Self::ShardConfig => stage.apply(&[("/delivery/maxQueueBytes", json!("128Ki"))]).await?,
            Self::BadConfig => {
                // jemalloc with `abort_conf` refuses to start with an unknown option.
                let place = "/template/shard/env";
                let env = json!([{ "name": "_RJEM_MALLOC_CONF", "value": "abort_conf:true,no_such_option:1" }]);
                stage.edit(&[(place, env)]).await?;
                stage.event("crash_loop").await?;
                stage.apply(&[(place, json!([]))]).await?;
            }
            Self::GatewayRollout => stage.apply(&[("/gateway/queue", json!({ "timeout": "9s" }))]).await?,
            Self::TenEdits => ten_edits::happen(stage, args.seed).await?,
            Self::Autoscale => {
                stage.until("five shards serve", |health| serve(health, 5)).await?;
                let verdict = match crowd {
                    Some(crowd) => Some(crowd.leave(BACK).await?),
                    None => None,
                };
                stage.until("three shards are left", |health| serve(health, 3)).await?;
                return Ok(verdict);
            }
            Self::Rebalance => {
                let rules = json!({ "maxImbalance": MAX_IMBALANCE, "evictRate": 20, "budget": 100 });
                stage.apply(&[("/shards", json!(4)), ("/rebalance", rules)]).await?;
                let clients = u64::from(args.clients);
                let is_even = |health: &Value| {
                    let all = health["checks"]["capacity"]["current"].as_u64() >= Some(clients);
                    all && health["imbalance_percent"].as_f64() <= Some(f64::from(MAX_IMBALANCE))
                };
                stage.until("connections are spread", is_even).await?;
            }
            Self::ShardKill => stage.break_shard(1, Signal::KILL).await?,
            Self::ShardStop => stage.break_shard(0, Signal::STOP).await?,
            Self::GatewayKill => stage.break_gateway(0, Signal::KILL).await?,
        }
        Ok(None)
    }
}

/// Whether there are that many shards and all of them are healthy.
fn serve(health: &Value, count: usize) -> bool {
    health["status"] == Status::Healthy.as_str()
        && health["shards"].as_array().is_some_and(|shards| shards.len() == count)
}
