//! Discovers the shards of a Kubernetes Service: watches its endpoint slices and keeps the table equal to their list.
//!
//! It has its own thread and runtime, so that neither a large list nor a hanging API server delays tunnels. While the
//! API server is unavailable the last list stays in use without a time limit. The poller finds out which members
//! serve: an endpoint that is not ready is a member too.

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, Config};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use wscluster_admin::health;
use wscluster_runtime::critical_task::spawn_critical;

use self::roster::Roster;
use self::slices::Listing;
use super::gateway::Gateway;
use super::stage::Stage;

mod api;
pub(crate) mod roster;
pub(crate) mod slices;

#[cfg(test)]
mod tests;

/// Descriptors of the API server's connections, and of the thread's own event loop.
pub(crate) const DESCRIPTORS: usize = 8;

/// Age of the list from which on `/health` reports a failing API server.
const TROUBLE: Duration = Duration::from_secs(30);

/// A Service, as `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    namespace: String,
    name: String,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // RFC 1123 labels. Checked because they become part of a URL.
        let is_label = |part: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            (1..=63).contains(&part.len()) && part.chars().all(inner) && !part.starts_with('-') && !part.ends_with('-')
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_label(namespace) && is_label(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is not a Service; write NAMESPACE/NAME, e.g. default/prices-shards")),
        }
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why discovery cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// Neither a kubeconfig nor a service account.
    #[error("failed to find the API server: {0}; run it in a pod with a service account, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration is unusable.
    #[error("failed to prepare the connection to the API server: {0}")]
    Client(#[from] kube::Error),
    /// The thread or its runtime did not start.
    #[error("failed to start discovery: {0}")]
    Start(#[from] io::Error),
}

/// State of discovery, for health and metrics.
#[derive(Debug)]
pub(crate) struct Discovery {
    service: Service,
    began: Instant,
    members: AtomicU32,
    /// Milliseconds after `began`, plus one, of the last answer of the API server. 0: never.
    confirmed_ms: AtomicU64,
    errors: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Discovery {
    /// Discovery before the first list.
    pub(crate) fn new(service: Service) -> Self {
        Self {
            service,
            began: Instant::now(),
            members: AtomicU32::new(0),
            confirmed_ms: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            error: Mutex::default(),
        }
    }

    /// Whether the API server has given a list.
    pub(crate) fn has_listed(&self) -> bool {
        self.confirmed_ms.load(Relaxed) > 0
    }

    /// Number of shards in the list.
    pub(crate) fn members(&self) -> u32 {
        self.members.load(Relaxed)
    }

    /// Number of failed lists and watches.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Time since the API server last confirmed the list; since the start before the first list.
    pub(crate) fn age(&self) -> Duration {
        let confirmed = Duration::from_millis(self.confirmed_ms.load(Relaxed).saturating_sub(1));
        self.began.elapsed().saturating_sub(confirmed)
    }

    /// For `/health`.
    pub(crate) fn health(&self) -> health::Discovery {
        health::Discovery {
            service: self.service.to_string(),
            members: self.members(),
            listed: self.has_listed(),
            age_seconds: self.age().as_secs_f64(),
            errors: self.errors(),
            error: self.error(),
        }
    }

    /// The present trouble and its consequence.
    pub(crate) fn trouble(&self) -> Option<String> {
        let error = self.error().filter(|_| self.age() > TROUBLE)?;
        Some(format!(
            "the list of shards is {} s old and stays in use: the API server does not answer ({error})",
            self.age().as_secs()
        ))
    }

    fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    fn confirmed(&self) {
        self.confirmed_ms.store(self.began.elapsed().as_millis() as u64 + 1, Relaxed);
        let mut error = self.error.lock();
        if error.take().is_some() {
            tracing::info!(service = %self.service, "the API server answers again");
        }
    }

    fn failed(&self, cause: &str) {
        self.errors.fetch_add(1, Relaxed);
        let mut error = self.error.lock();
        // One line for each outage, however many attempts it lasts.
        if error.replace(cause.to_owned()).is_none() {
            tracing::warn!(service = %self.service, error = cause, "the API server does not answer; the last list of shards stays in use");
        }
    }
}

/// Starts to follow the Service of `discovery`; ends with the process. Fails without a usable configuration of the
/// API server.
pub(crate) fn start(gateway: Arc<Gateway>, discovery: Arc<Discovery>) -> Result<(), DiscoveryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(async {
        let mut config = Config::infer().await?;
        // No proxy, whatever the environment configures: the API server is in the same network.
        config.proxy_url = None;
        Ok::<_, DiscoveryError>(Client::try_from(config)?)
    })?;
    spawn_critical("discovery", gateway.failing(), move || runtime.block_on(run(gateway, discovery, client)))?;
    Ok(())
}

/// Follows until the gateway closes.
pub(crate) async fn run(gateway: Arc<Gateway>, discovery: Arc<Discovery>, client: Client) {
    let (found, listings) = watch::channel(None);
    let slices: Api<EndpointSlice> = Api::namespaced(client, &discovery.service.namespace);
    tokio::select! {
        () = api::follow(&slices, &discovery, &found) => {}
        () = apply(&gateway, &discovery, listings) => {}
        () = gateway.reached(Stage::Closing) => {}
    }
}

/// Keeps the table equal to the last listing.
async fn apply(gateway: &Gateway, discovery: &Discovery, mut listings: watch::Receiver<Option<Listing>>) {
    let mut roster = Roster::default();
    let mut unusable = 0;
    loop {
        let mut again = None;
        if let Some(listing) = &*listings.borrow_and_update() {
            if std::mem::replace(&mut unusable, listing.unusable) < listing.unusable {
                tracing::warn!(service = %discovery.service, endpoints = listing.unusable, wanted = ?slices::PORTS,
                    "endpoints are unusable: their slice lacks these ports, or they have no IP address");
            }
            let (members, later) = roster.update(listing, Instant::now());
            discovery.members.store(members.len() as u32, Relaxed);
            gateway.set_members(&members);
            again = later;
        }
        let due = async {
            match again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = listings.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = due => {}
        }
    }
}
