//! The message of a run that is ready: its addresses, and how to try it.

use std::path::PathBuf;

use serde::Serialize;

use super::sample::Sample;
use super::state::RunState;

/// The addresses of a run that is ready. Members are documented output: see `docs/local.md`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReadyMessage {
    gateway: String,
    admin: String,
    shards: Vec<Shard>,
    gateways: Vec<Gateway>,
    kafka: String,
    token_file: PathBuf,
    #[serde(skip)]
    details: ReadyDetails,
}

/// What the text for people has beside the addresses.
#[derive(Clone, Debug)]
pub(crate) struct ReadyDetails {
    pub(crate) name: String,
    /// Connections that a shard may hold.
    pub(crate) capacity: u32,
    /// Whether the broker is the embedded one, which loses its records at the end.
    pub(crate) embedded: bool,
    /// Whether the demo runs.
    pub(crate) demo: bool,
    /// The topic and channels of the examples.
    pub(crate) sample: Option<Sample>,
    /// The file with the token that orders to the admin ports of shards and gateways carry.
    pub(crate) token_file: PathBuf,
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

impl ReadyMessage {
    /// The message from the current state.
    pub(crate) fn new(state: &RunState, gateway: String, admin: String, kafka: String, details: ReadyDetails) -> Self {
        let shards = state.shards().iter().map(|child| Shard {
            name: child.name.to_string(),
            ws: child.ws.to_string(),
            admin: child.admin.to_string(),
            pid: child.pid.unwrap_or_default(),
        });
        let gateways = state.gateways().iter();
        let gateways =
            gateways.map(|child| Gateway { admin: child.admin.to_string(), pid: child.pid.unwrap_or_default() });
        let token_file = details.token_file.clone();
        Self { gateway, admin, shards: shards.collect(), gateways: gateways.collect(), kafka, token_file, details }
    }

    /// The text for people.
    pub(crate) fn text(&self) -> String {
        let Self { gateway, admin, kafka, details, .. } = self;
        let broker =
            if details.embedded { "  embedded broker; records are kept in memory until this command ends" } else { "" };
        let mut text = format!(
            "{}: {} shards of {} connections behind {} gateways, ready\n\n\
             \x20 clients  ws://{gateway}/ws\n\
             \x20 browser  http://{admin}/         shows messages as they arrive\n\
             \x20 health   http://{admin}/health\n\
             \x20 Kafka    {kafka}{broker}\n\
             \x20 token    {}    permits /drain and /evict\n",
            details.name,
            self.shards.len(),
            details.capacity,
            self.gateways.len(),
            self.token_file.display(),
        );
        for shard in &self.shards {
            text +=
                &format!("  {:<8} ws://{}/ws  admin http://{}  pid {}\n", shard.name, shard.ws, shard.admin, shard.pid);
        }
        if let Some(Sample { topic, key, channels }) = &details.sample {
            if details.demo {
                text += &format!("\nThe demo publishes trades to {topic}: {}\n", channels.join(" "));
            }
            let channel = &channels[0];
            text += &format!(
                "\nPublish to channel {channel} with any Kafka client, or with\n\
                 \x20 wscluster publish --brokers {kafka} {topic} --key {key} '{{\"price\":1}}'\n\
                 \x20 echo '{key}:{{\"price\":1}}' | kcat -P -b {kafka} -t {topic} -K:\n\
                 and read it with\n\
                 \x20 wscluster tail --url ws://{gateway}/ws {channel}\n\
                 or with any WebSocket client, which sends\n\
                 \x20 {{\"type\":\"subscribe\",\"data\":{{\"channels\":[\"{channel}\"]}}}}\n",
            );
        }
        text + "\nCtrl-C moves the connections away and ends every process."
    }
}
