//! The failures that the audit causes.

use std::time::Duration;

use clap::ValueEnum;
use rustix::process::Signal;
use tokio::time::sleep;

use super::Args;
use super::link::Link;
use crate::child::signal_pid;
use crate::error::{Error, Result};
use crate::kafka::Kafka;
use crate::local::Local;

/// A failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Fault {
    /// A broker is stopped with a clean shutdown and started again.
    BrokerRestart,
    /// A broker is killed, and started again some seconds later.
    BrokerKill,
    /// A shard is killed.
    ShardKill,
    /// A shard is stopped by SIGSTOP for a while.
    ShardStop,
    /// A gateway is killed.
    GatewayKill,
    /// The link between the shards and Kafka drops every packet.
    LinkCut,
}

impl Fault {
    /// All failures, in the order of the report.
    pub(super) const ALL: [Self; 6] =
        [Self::BrokerRestart, Self::BrokerKill, Self::ShardKill, Self::ShardStop, Self::GatewayKill, Self::LinkCut];

    /// Name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Name in the report.
    pub(super) fn text(self, args: &Args) -> String {
        match self {
            Self::BrokerRestart => "broker restarted".to_owned(),
            Self::BrokerKill => "broker killed -9, back after 5 s".to_owned(),
            Self::ShardKill => "shard killed -9".to_owned(),
            Self::ShardStop => format!("shard stopped (SIGSTOP) for {} s", args.stop),
            Self::GatewayKill => "gateway killed -9".to_owned(),
            Self::LinkCut => format!("link to Kafka cut for {} s", args.cut),
        }
    }

    /// Causes the failure. Returns when the cause is over; its effect may last longer.
    pub(super) async fn happen(self, args: &Args, local: &Local, kafka: &Kafka, link: &Link) -> Result<()> {
        // Each shard is affected once, so the process ids from the start stay valid.
        let ready = &local.ready;
        let pid = |pid: Option<u32>| pid.ok_or_else(|| Error::Unusable("no such process in this run".to_owned()));
        match self {
            Self::BrokerRestart => kafka.broker(1, "restart").await,
            Self::BrokerKill => {
                kafka.broker(2, "kill").await?;
                sleep(Duration::from_secs(5)).await;
                kafka.broker(2, "start").await
            }
            Self::ShardKill => signal_pid(pid(ready.shards.first().map(|shard| shard.pid))?, Signal::KILL),
            Self::ShardStop => {
                let shard = pid(ready.shards.get(1).map(|shard| shard.pid))?;
                signal_pid(shard, Signal::STOP)?;
                sleep(Duration::from_secs(args.stop)).await;
                signal_pid(shard, Signal::CONT)
            }
            Self::GatewayKill => signal_pid(pid(ready.gateways.first().map(|gateway| gateway.pid))?, Signal::KILL),
            Self::LinkCut => {
                let cut = link.cut()?;
                sleep(Duration::from_secs(args.cut)).await;
                cut.mend()
            }
        }
    }
}
