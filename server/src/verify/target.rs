//! What is verified and what is expected of it, from the command line, the manifest and the ready line of a local run.

use std::path::Path;

use serde::Deserialize;
use tokio_tungstenite::tungstenite::http::Uri;
use wscluster_api::WsCluster;
use wscluster_api::spec::{Kafka, Topic};

use super::Args;
use super::members::Expected;

/// Everything a run of checks needs.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` of the admin address.
    pub admin: String,
    /// `host:port` and path of the WebSocket address.
    pub gateway: Option<(String, String)>,
    /// What was declared.
    pub expected: Expected,
    /// How to publish.
    pub source: Option<Source>,
    /// `Origin` to send.
    pub origin: Option<String>,
}

/// Where to publish, and where it should arrive.
#[derive(Clone, Debug)]
pub struct Source {
    /// Brokers and how they are trusted.
    pub kafka: Kafka,
    /// Topic.
    pub topic: String,
    /// Template of its channels.
    pub channel: String,
}

/// What cannot be made a target of.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// An address.
    #[error("--{option} {value:?} is no {what}; write {example}")]
    Address {
        /// Option.
        option: &'static str,
        /// What it holds.
        value: String,
        /// What it should be.
        what: &'static str,
        /// How that looks.
        example: &'static str,
    },
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] wscluster_api::manifest::ManifestError),
    /// The file of a local run.
    #[error(
        "failed to read {path}, which should begin with the line that `wscluster local --output json` prints: {reason}"
    )]
    Local {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// No admin address.
    #[error("no admin address: give --admin http://HOST:PORT of a gateway, or --local FILE")]
    NoAdmin,
    /// A topic that the manifest does not have.
    #[error(
        "--topic {0:?} is not in the manifest, so its channel is not known; give --channel too, e.g. \"{{key}}.trade\""
    )]
    NoChannel(String),
}

#[derive(Deserialize)]
struct LocalRun {
    gateway: String,
    admin: String,
    kafka: String,
}

impl Target {
    /// From the command line.
    pub fn new(args: &Args) -> Result<Self, TargetError> {
        let cluster = args.file.as_deref().map(wscluster_api::manifest::read).transpose()?;
        let local = args.local.as_deref().map(read_local).transpose()?;
        let admin = match (&args.admin, &local) {
            (Some(admin), _) => admin_address("admin", admin)?,
            (None, Some(local)) => local.admin.clone(),
            (None, None) => return Err(TargetError::NoAdmin),
        };
        let gateway = match (&args.gateway, &local) {
            (Some(gateway), _) => Some(authority("gateway", gateway, "ws")?),
            (None, Some(local)) => Some((local.gateway.clone(), "/ws".to_owned())),
            (None, None) => None,
        };
        let spec = cluster.as_ref().map(|cluster| &cluster.spec);
        let expected = Expected {
            // With autoscaling, any number may be right.
            shards: args.shards.or(spec.filter(|spec| spec.autoscale.is_none()).map(|spec| spec.shards)),
            capacity: args.capacity.or(spec.map(|spec| spec.capacity)),
        };
        let origin = spec.and_then(|spec| spec.gateway.allowed_origins.first().cloned());
        let source = source(args, cluster.as_ref(), local.as_ref())?;
        Ok(Self { admin, gateway, expected, source, origin: args.origin.clone().or(origin) })
    }
}

fn source(args: &Args, cluster: Option<&WsCluster>, local: Option<&LocalRun>) -> Result<Option<Source>, TargetError> {
    let mut kafka = cluster.map_or_else(Kafka::default, |cluster| cluster.spec.source.kafka.clone());
    if !args.kafka.is_empty() {
        kafka.brokers.clone_from(&args.kafka);
    } else if let Some(local) = local {
        kafka.brokers = local.kafka.split(',').map(str::to_owned).collect();
    }
    if kafka.brokers.is_empty() {
        return Ok(None);
    }
    let usable = |topic: &&Topic| !topic.name.is_empty() && !topic.channel.contains("{header:");
    let found = match &args.topic {
        Some(name) => kafka.topics.iter().find(|topic| topic.name == *name),
        None => kafka.topics.iter().find(usable),
    };
    let topic = args.topic.clone().or(found.map(|topic| topic.name.clone()));
    let channel = args.channel.clone().or(found.map(|topic| topic.channel.clone()));
    match (topic, channel) {
        (Some(topic), Some(channel)) => Ok(Some(Source { kafka, topic, channel })),
        (Some(topic), None) => Err(TargetError::NoChannel(topic)),
        (None, _) => Ok(None),
    }
}

fn read_local(path: &Path) -> Result<LocalRun, TargetError> {
    let failed = |reason: String| TargetError::Local { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let line = text.lines().next().ok_or_else(|| failed("it is empty".into()))?;
    serde_json::from_str(line).map_err(|error| failed(error.to_string()))
}

/// `host:port` of the admin address `text` that `option` was given.
pub fn admin_address(option: &'static str, text: &str) -> Result<String, TargetError> {
    Ok(authority(option, text, "http")?.0)
}

/// `host:port` and path of `SCHEME://host:port/path`; the scheme may be left away.
fn authority(option: &'static str, text: &str, scheme: &str) -> Result<(String, String), TargetError> {
    let (what, example) = match scheme {
        "ws" => ("WebSocket address", "ws://127.0.0.1:8080/ws (no TLS here: verify from inside, behind the ingress)"),
        _ => ("admin address", "http://127.0.0.1:8081 (no TLS here: verify from inside)"),
    };
    let wrong = || TargetError::Address { option, value: text.to_owned(), what, example };
    let full = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
    let uri: Uri = full.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some(scheme) {
        return Err(wrong());
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    let path = match uri.path_and_query().map(ToString::to_string) {
        Some(path) if path != "/" => path,
        _ => "/ws".to_owned(),
    };
    Ok((format!("{host}:{}", uri.port_u16().unwrap_or(80)), path))
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
        let target = parse(&["--admin", "127.0.0.1:8081", "--gateway", "ws://[::1]:8080"]).unwrap();
        assert_eq!(target.admin, "127.0.0.1:8081");
        assert_eq!(target.gateway, Some(("[::1]:8080".into(), "/ws".into())));
        assert!(target.source.is_none());
    }

    #[test]
    fn names_an_address_it_cannot_use() {
        let error = parse(&["--admin", "https://a:1"]).unwrap_err().to_string();
        assert!(error.starts_with("--admin \"https://a:1\" is no admin address; write http://"), "{error}");
        assert!(parse(&["--admin", "a:1", "--gateway", "wss://b"]).unwrap_err().to_string().contains("--gateway"));
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
        assert_eq!(target.gateway, Some(("127.0.0.1:1".into(), "/ws".into())));
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
    fn asks_for_the_channel_of_an_unknown_topic() {
        let error = parse(&["--admin", "a:1", "--kafka", "b:2", "--topic", "news"]).unwrap_err().to_string();
        assert!(error.contains("give --channel too"), "{error}");
    }
}
