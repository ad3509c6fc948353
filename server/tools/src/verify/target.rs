//! The deployment under test and what is declared about it: from the command line, the manifest, and the ready line of a
//! local run.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use wscluster_api::WsCluster;
use wscluster_api::spec::{Kafka, Topic};
use wscluster_client::handshake::{HeaderError, header_lines};
use wscluster_client::{Endpoint, EndpointError};

use super::Args;
use super::client::Entrance;
use super::members::Expected;

/// The input of all checks.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `host:port` of the admin address.
    pub(crate) admin: String,
    /// WebSocket address of a gateway.
    pub(crate) gateway: Option<Endpoint>,
    /// The declared shards and capacity.
    pub(crate) expected: Expected,
    /// Where to publish; `None` skips the check of delivery.
    pub(crate) source: Option<Source>,
    /// `Origin` to send.
    pub(crate) origin: Option<String>,
}

/// Where to publish a record, and the channel in which it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Brokers and security settings.
    pub(crate) kafka: Kafka,
    /// Name of the topic.
    pub(crate) topic: String,
    /// Template of the topic's channels.
    pub(crate) channel: String,
}

/// The arguments do not describe a deployment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// Not an address.
    #[error("--{option} {value:?} is not a valid {what}; write {example}")]
    Address {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What the value should be.
        what: &'static str,
        /// A good value.
        example: &'static str,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] wscluster_api::manifest::ManifestError),
    /// The file of a local run is wrong.
    #[error(
        "failed to read {path}, whose first line must be the ready line of `wscluster local --output json`: {reason}"
    )]
    Local {
        /// Path of the file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// No admin address.
    #[error("no admin address: give --admin http://HOST:PORT of a gateway, or --local FILE")]
    NoAdmin,
    /// An origin that cannot stand in a header.
    #[error("--origin: {0}")]
    Origin(#[from] HeaderError),
    /// The manifest does not have the topic.
    #[error(
        "--topic {0:?} is not in the manifest, so its channel is not known; give --channel too, e.g. \"{{key}}.trade\""
    )]
    NoChannel(String),
    /// The channel needs a header that the published record does not have.
    #[error(
        "--topic {topic:?} has the channel {channel:?}, which needs a header that the published record does not have; name \
         another topic, or omit --topic to use the first one without a header"
    )]
    Header {
        /// Name of the topic.
        topic: String,
        /// Template of its channels.
        channel: String,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FirstLine {
    Ready(LocalRun),
    Failed { error: String },
}

#[derive(Deserialize)]
struct LocalRun {
    gateway: String,
    admin: String,
    kafka: String,
}

impl Target {
    /// The target that the command line describes.
    pub(crate) fn new(args: &Args) -> Result<Self, TargetError> {
        let cluster = args.file.as_deref().map(wscluster_api::manifest::read).transpose()?;
        let local = args.local.as_deref().map(|path| read_local(path, args.timeout.0)).transpose()?;
        let admin = match (&args.admin, &local) {
            (Some(admin), _) => admin_address("admin", admin)?,
            (None, Some(local)) => local.admin.clone(),
            (None, None) => return Err(TargetError::NoAdmin),
        };
        let gateway = match (&args.url, &local) {
            (Some(url), _) => Some(websocket_address("url", url)?),
            (None, Some(local)) => Some(websocket_address("local", &local.gateway)?),
            (None, None) => None,
        };
        let spec = cluster.as_ref().map(|cluster| &cluster.spec);
        let expected = Expected {
            // With autoscaling, the number is not declared.
            shards: args.shards.or(spec.filter(|spec| spec.autoscale.is_none()).map(|spec| spec.shards)),
            capacity: args.capacity.or(spec.map(|spec| spec.capacity)),
        };
        let origin = spec.and_then(|spec| spec.gateway.allowed_origins.first().cloned());
        let origin = args.origin.clone().or(origin);
        if let Some(origin) = &origin {
            header_lines([("Origin", origin.as_str())])?;
        }
        let source = source(args, cluster.as_ref(), local.as_ref())?;
        Ok(Self { admin, gateway, expected, source, origin })
    }

    /// The gateway, with `limit` for each step.
    pub(crate) fn entrance(&self, limit: Duration) -> Option<Entrance> {
        let endpoint = self.gateway.clone()?;
        Some(Entrance { endpoint, origin: self.origin.clone(), limit })
    }

    /// The shard at `address`, contacted directly, with the path of the gateway's URL.
    pub(crate) fn shard(&self, address: &str, limit: Duration) -> Result<Entrance, EndpointError> {
        let endpoint = Endpoint::of_authority(address)?;
        match self.entrance(limit) {
            Some(gateway) => gateway.at(address),
            None => Ok(Entrance { endpoint, origin: self.origin.clone(), limit }),
        }
    }
}

fn source(args: &Args, cluster: Option<&WsCluster>, local: Option<&LocalRun>) -> Result<Option<Source>, TargetError> {
    let mut kafka = cluster.map_or_else(Kafka::default, |cluster| cluster.spec.source.kafka.clone());
    if !args.brokers.is_empty() {
        kafka.brokers.clone_from(&args.brokers);
    } else if let Some(local) = local {
        kafka.brokers = local.kafka.split(',').map(str::to_owned).collect();
    }
    if kafka.brokers.is_empty() {
        return Ok(None);
    }
    let needs_header = |channel: &str| channel.contains("{header:");
    let usable = |topic: &&Topic| !topic.name.is_empty() && !needs_header(&topic.channel);
    let found = match &args.topic {
        Some(name) => kafka.topics.iter().find(|topic| topic.name == *name),
        None => kafka.topics.iter().find(usable),
    };
    let topic = args.topic.clone().or(found.map(|topic| topic.name.clone()));
    let channel = args.channel.clone().or(found.map(|topic| topic.channel.clone()));
    match (topic, channel) {
        (Some(topic), Some(channel)) if needs_header(&channel) => Err(TargetError::Header { topic, channel }),
        (Some(topic), Some(channel)) => Ok(Some(Source { kafka, topic, channel })),
        (Some(topic), None) => Err(TargetError::NoChannel(topic)),
        (None, _) => Ok(None),
    }
}

/// Waits for the first line. `wscluster local` prints it when everything serves, which may be after this process starts.
fn read_local(path: &Path, within: Duration) -> Result<LocalRun, TargetError> {
    const AGAIN: Duration = Duration::from_millis(50);
    let failed = |reason: String| TargetError::Local { path: path.display().to_string(), reason };
    let begun = Instant::now();
    let line = loop {
        let missing = match std::fs::read_to_string(path) {
            Ok(text) => match text.split_once('\n') {
                Some((line, _)) => break line.to_owned(),
                None => "it has no line".to_owned(),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => error.to_string(),
            Err(error) => return Err(failed(error.to_string())),
        };
        if begun.elapsed() >= within {
            let remedy = "wait until that run is ready, or raise --timeout";
            return Err(failed(format!("{missing} after {within:?}; {remedy}")));
        }
        std::thread::sleep(AGAIN);
    };
    match serde_json::from_str(&line) {
        Ok(FirstLine::Ready(run)) => Ok(run),
        Ok(FirstLine::Failed { error }) => Err(failed(format!("that run did not start: {error}"))),
        Err(_) => Err(failed(format!("its first line is {line:?}"))),
    }
}

/// `HOST:PORT` of the admin address `text`, the value of `option`. The scheme `http://` may be left out.
pub(crate) fn admin_address(option: &'static str, text: &str) -> Result<String, TargetError> {
    let authority = match text.split_once("://") {
        Some(("http", rest)) => Some(rest.split_once(['/', '?']).map_or(rest, |(authority, _)| authority)),
        Some(_) => None,
        None => Some(text.split_once(['/', '?']).map_or(text, |(authority, _)| authority)),
    };
    let endpoint = authority.and_then(|authority| Endpoint::of_authority(authority).ok());
    endpoint.map(|endpoint| endpoint.address()).ok_or_else(|| TargetError::Address {
        option,
        value: text.to_owned(),
        what: "admin address",
        example: "http://127.0.0.1:8081 (no TLS here: verify from inside)",
    })
}

/// The WebSocket address `text`, the value of `option`. The scheme `ws://` may be left out; the default path is `/ws`.
fn websocket_address(option: &'static str, text: &str) -> Result<Endpoint, TargetError> {
    let url = if text.contains("://") { text.to_owned() } else { format!("ws://{text}") };
    let mut endpoint = Endpoint::of_url(&url).map_err(|_| TargetError::Address {
        option,
        value: text.to_owned(),
        what: "WebSocket address",
        example: "ws://127.0.0.1:8080/ws (no TLS here: verify from inside, behind the ingress)",
    })?;
    // A URL without a path is often written with a final slash.
    if endpoint.path == "/" {
        "/ws".clone_into(&mut endpoint.path);
    }
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Target, TargetError> {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        let line = ["verify"].iter().chain(args);
        Target::new(&<Cli as clap::Parser>::parse_from(line).args)
    }

    #[test]
    fn reads_addresses_with_and_without_scheme() {
        let target = parse(&["--admin", "127.0.0.1:8081", "--url", "ws://[::1]:8080"]).unwrap();
        assert_eq!(target.admin, "127.0.0.1:8081");
        assert_eq!(target.gateway, Some(Endpoint { host: "[::1]:8080".into(), path: "/ws".into() }));
        assert!(target.source.is_none());
    }

    #[test]
    fn names_an_address_that_cannot_be_used() {
        let error = parse(&["--admin", "https://a:1"]).unwrap_err().to_string();
        assert!(error.starts_with("--admin \"https://a:1\" is not a valid admin address; write http://"), "{error}");
        assert!(parse(&["--admin", "a:1", "--url", "wss://b"]).unwrap_err().to_string().contains("--url"));
        assert!(parse(&[]).unwrap_err().to_string().starts_with("no admin address"));
    }

    #[test]
    fn takes_expectations_from_the_manifest_and_addresses_from_a_local_run() {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, run) = (folder.path().join("cluster.yaml"), folder.path().join("run.json"));
        let text = "apiVersion: wscluster.dev/v1alpha1\nkind: WsCluster\nmetadata: { name: prices }\nspec:\n  shards: 3\n  \
                    capacity: 50\n  source: { kafka: { topics: [ { name: odin.trades, channel: \"{key}.trade\" } ] } }\n  \
                    gateway: { allowedOrigins: [\"https://example.com\"] }\n";
        std::fs::write(&manifest, text).unwrap();
        let line = "{\"gateway\":\"127.0.0.1:1\",\"admin\":\"127.0.0.1:2\",\"shards\":[],\"gateways\":[],\
                    \"kafka\":\"127.0.0.1:3\"}\n{\"event\":\"stopping\"}\n";
        std::fs::write(&run, line).unwrap();
        let target = parse(&["-f", manifest.to_str().unwrap(), "--local", run.to_str().unwrap()]).unwrap();
        assert_eq!(target.admin, "127.0.0.1:2");
        assert_eq!(target.gateway, Some(Endpoint { host: "127.0.0.1:1".into(), path: "/ws".into() }));
        assert_eq!(target.expected, Expected { shards: Some(3), capacity: Some(50) });
        assert_eq!(target.origin.as_deref(), Some("https://example.com"));
        let source = target.source.unwrap();
        assert_eq!((source.topic.as_str(), source.channel.as_str()), ("odin.trades", "{key}.trade"));
        assert_eq!(source.kafka.brokers, ["127.0.0.1:3"]);
        std::fs::write(&run, "not ready\n").unwrap();
        let error = parse(&["--local", run.to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("`wscluster local --output json`"), "{error}");
    }

    #[test]
    fn waits_for_the_line_of_a_run_that_is_still_starting() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run.json");
        let path = run.to_str().unwrap();
        let error = parse(&["--local", path, "--timeout", "1ms"]).unwrap_err().to_string();
        assert!(error.contains("No such file") && error.contains("raise --timeout"), "{error}");
        // An incomplete line does not count.
        std::fs::write(&run, "{\"gateway\":\"127.0.0.1:1\",").unwrap();
        let error = parse(&["--local", path, "--timeout", "1ms"]).unwrap_err().to_string();
        assert!(error.contains("it has no line after 1ms; wait until that run is ready"), "{error}");

        let late = std::thread::spawn({
            let (path, run) = (path.to_owned(), run.clone());
            move || {
                let target = parse(&["--local", &path, "--timeout", "1m"]);
                assert_eq!(target.unwrap().admin, "127.0.0.1:2", "{}", run.display());
            }
        });
        let line = "{\"gateway\":\"127.0.0.1:1\",\"admin\":\"127.0.0.1:2\",\"kafka\":\"127.0.0.1:3\"}\n";
        std::fs::write(&run, line).unwrap();
        late.join().unwrap();

        std::fs::write(&run, "{\"event\":\"failed\",\"error\":\"port 1 is taken\"}\n").unwrap();
        let error = parse(&["--local", path]).unwrap_err().to_string();
        assert!(error.ends_with("that run did not start: port 1 is taken"), "{error}");
    }

    #[test]
    fn refuses_a_topic_whose_channel_needs_a_header() {
        let line = ["--admin", "a:1", "--brokers", "b:2", "--topic", "news", "--channel", "{header:h}.news"];
        let error = parse(&line).unwrap_err().to_string();
        assert!(error.starts_with("--topic \"news\" has the channel \"{header:h}.news\""), "{error}");
    }

    #[test]
    fn asks_for_the_channel_of_an_unknown_topic() {
        let error = parse(&["--admin", "a:1", "--brokers", "b:2", "--topic", "news"]).unwrap_err().to_string();
        assert!(error.contains("give --channel too"), "{error}");
    }
}
