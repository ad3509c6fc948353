//! What a run says once it serves: its addresses, and how to try it.

use serde::Serialize;

use super::sample::Sample;
use super::state::Board;

/// Addresses of a run that is ready. Members are part of the documented output: `docs/local.md`.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    gateway: String,
    admin: String,
    shards: Vec<Shard>,
    gateways: Vec<Gateway>,
    kafka: String,
    #[serde(skip)]
    about: About,
}

/// What people want to know beside the addresses.
#[derive(Clone, Debug)]
pub struct About {
    /// Name of the service.
    pub name: String,
    /// Connections a shard may hold.
    pub capacity: u32,
    /// Whether the broker is ours and forgets everything.
    pub embedded: bool,
    /// Whether the demo publishes.
    pub demo: bool,
    /// How to try it.
    pub sample: Option<Sample>,
}

#[derive(Clone, Debug, Serialize)]
struct Shard {
    name: String,
    ws: String,
    admin: String,
    pid: u32,
}

#[derive(Clone, Debug, Serialize)]
struct Gateway {
    admin: String,
    pid: u32,
}

impl Ready {
    /// From what runs now.
    pub fn new(board: &Board, gateway: String, admin: String, kafka: String, about: About) -> Self {
        let shards = board.shards().iter().map(|row| Shard {
            name: row.name.to_string(),
            ws: row.ws.to_string(),
            admin: row.admin.to_string(),
            pid: row.pid.unwrap_or_default(),
        });
        let gateways = board.gateways().iter();
        let gateways = gateways.map(|row| Gateway { admin: row.admin.to_string(), pid: row.pid.unwrap_or_default() });
        Self { gateway, admin, shards: shards.collect(), gateways: gateways.collect(), kafka, about }
    }

    /// For people.
    pub fn text(&self) -> String {
        let Self { gateway, admin, kafka, about, .. } = self;
        let broker =
            if about.embedded { "  embedded broker, memory only: records are gone when this ends" } else { "" };
        let mut text = format!(
            "{}: {} shards of {} connections behind {} gateways, ready\n\n\
             \x20 clients  ws://{gateway}/ws\n\
             \x20 browser  http://{admin}/         shows messages as they come\n\
             \x20 health   http://{admin}/health\n\
             \x20 Kafka    {kafka}{broker}\n",
            about.name,
            self.shards.len(),
            about.capacity,
            self.gateways.len(),
        );
        for shard in &self.shards {
            text +=
                &format!("  {:<8} ws://{}/ws  admin http://{}  pid {}\n", shard.name, shard.ws, shard.admin, shard.pid);
        }
        if let Some(Sample { topic, key, channels }) = &about.sample {
            if about.demo {
                text += &format!("\nThe demo publishes trades to {topic}: {}\n", channels.join(" "));
            }
            let channel = &channels[0];
            text += &format!(
                "\nPublish to channel {channel} with any Kafka client, or with\n\
                 \x20 wscluster publish --brokers {kafka} {topic} --key {key} '{{\"price\":1}}'\n\
                 \x20 echo '{key}:{{\"price\":1}}' | kcat -P -b {kafka} -t {topic} -K:\n\
                 and read it with\n\
                 \x20 wscluster tail --url ws://{gateway}/ws {channel}\n\
                 or any WebSocket client, which sends\n\
                 \x20 {{\"type\":\"subscribe\",\"data\":{{\"channels\":[\"{channel}\"]}}}}\n",
            );
        }
        text + "\nCtrl-C moves the connections away and ends everything."
    }
}
