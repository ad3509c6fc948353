//! The gauges of `/metrics`: queue, tunnels, bytes and the estimated load of each shard. They are computed on request,
//! so that the data path keeps no second copy.

use std::fmt::Error;
use std::sync::{Arc, atomic::Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType::{Counter, Gauge};

use super::discovery::Discovery;
use super::gateway::Gateway;

/// Reads them.
pub(crate) struct Gauges(pub(crate) Arc<Gateway>);

impl std::fmt::Debug for Gauges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gauges")
    }
}

type Value = fn(&wscluster_routing::backend::Backend, u64) -> f64;

#[derive(Clone, Debug, EncodeLabelSet)]
struct ShardLabel {
    shard: String,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let gateway = &*self.0;
        let (attempts, ended) = gateway.metrics.totals();
        let relayed = gateway.relayed();
        for (name, help, value) in [
            ("handshakes_in_progress", "Handshakes that have not ended", attempts.saturating_sub(ended)),
            ("queue_waiting", "Handshakes that wait for a free slot", gateway.queue.len() as u64),
            ("tunnels", "Open tunnels", u64::from(gateway.tunnels.load(Relaxed))),
            ("open_files_limit", "Limit of open files of this process", gateway.fds.limit()),
        ] {
            encoder.encode_descriptor(name, help, None, Gauge)?.encode_gauge(&value)?;
        }
        if let Some(discovery) = gateway.discovery.get() {
            encode_discovery(&mut encoder, discovery)?;
        }
        let mut bytes = encoder.encode_descriptor("relayed_bytes", "Bytes relayed, by direction", None, Counter)?;
        for (direction, value) in [("to_shard", relayed.0), ("to_client", relayed.1)] {
            let labels = [("direction", direction)];
            bytes.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        let stalled = gateway.stalled();
        let help = "Tunnels whose client, or shard, accepts no bytes at the moment";
        let mut tunnels = encoder.encode_descriptor("stalled_tunnels", help, None, Gauge)?;
        for (direction, value) in [("to_shard", stalled.0), ("to_client", stalled.1)] {
            tunnels.encode_family(&[("direction", direction)])?.encode_gauge(&value)?;
        }
        let now = gateway.table.now_ms();
        let shards = gateway.table.shards();
        let gauges: [(&str, &str, Value); 5] = [
            ("shard_connections", "Connections of a shard, as last reported", |shard, _| {
                shard.load().connections.into()
            }),
            ("shard_capacity", "Connections a shard may hold", |shard, _| shard.load().capacity.into()),
            ("shard_in_flight", "Handshakes that this gateway has under way with a shard", |shard, _| {
                shard.load().in_flight.into()
            }),
            ("shard_age_seconds", "Time since the last answer of a shard", |shard, now| {
                shard.view(now).age_ms as f64 / 1e3
            }),
            ("shard_open", "1 while a shard takes upgrades, else 0", |shard, now| {
                f64::from(u8::from(shard.availability(now) != wscluster_routing::backend::Availability::Unavailable))
            }),
        ];
        for (name, help, value) in gauges {
            let mut gauge = encoder.encode_descriptor(name, help, None, Gauge)?;
            for shard in shards.iter() {
                let labels = ShardLabel { shard: shard.member().name.clone() };
                gauge.encode_family(&labels)?.encode_gauge(&value(shard, now))?;
            }
        }
        Ok(())
    }
}

fn encode_discovery(encoder: &mut DescriptorEncoder<'_>, discovery: &Discovery) -> Result<(), Error> {
    let members = "Shards in the list that the API server gave";
    encoder.encode_descriptor("discovery_members", members, None, Gauge)?.encode_gauge(&discovery.members())?;
    let age = "Time since the API server last confirmed the list of shards";
    encoder
        .encode_descriptor("discovery_age_seconds", age, None, Gauge)?
        .encode_gauge(&discovery.age().as_secs_f64())?;
    let errors = "Lists and watches of the API server that failed";
    let mut counter = encoder.encode_descriptor("discovery_errors", errors, None, Counter)?;
    counter.encode_counter::<NoLabelSet, _, u64>(&discovery.errors(), None)
}
