//! Finds the shards of a Kubernetes Service: follows its endpoint slices and keeps the table at what they list.
//!
//! It has a thread and a runtime of its own, so that neither a large list nor an API server that hangs is felt by any
//! tunnel. While the API server is away the last list stays, for as long as it takes: clients do not need it. Which of
//! the members serve is found out by polling them, not here: an endpoint that is not ready is a member too.

use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::time::Instant;
use wscluster_admin::health::Discovery as Told;
use wscluster_runtime::critical_task::spawn_critical;

use self::roster::Roster;
use self::slices::Listing;
use super::state::{Gateway, Stage};

mod api;
pub mod roster;
pub mod slices;

#[cfg(test)]
mod tests;

/// Descriptors of the API server's connections, and of the thread's own event loop.
pub const DESCRIPTORS: usize = 8;

/// How long the API server may be silent, with an error to show for it, until health calls it trouble.
const TROUBLE: Duration = Duration::from_secs(30);

/// A Service, as `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    namespace: String,
    name: String,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // RFC 1123 labels; what goes into a URL is checked here.
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

/// Why shards cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Neither a kubeconfig nor a service account.
    #[error("failed to find the API server: {0}; run it in a pod with a service account, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// What was found is of no use.
    #[error("failed to prepare the connection to the API server: {0}")]
    Client(#[from] kube::Error),
    /// The thread or its runtime.
    #[error("failed to start discovery: {0}")]
    Start(#[from] io::Error),
}

/// How far the list can be trusted; for health and metrics.
#[derive(Debug)]
pub struct Discovery {
    service: Service,
    began: Instant,
    members: AtomicU32,
    /// Milliseconds after `began`, and one, when the API server was last heard. 0: never.
    heard_ms: AtomicU64,
    errors: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Discovery {
    /// Nothing was listed yet.
    pub fn new(service: Service) -> Self {
        Self {
            service,
            began: Instant::now(),
            members: AtomicU32::new(0),
            heard_ms: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            error: Mutex::default(),
        }
    }

    /// Whether there was a list.
    pub fn has_listed(&self) -> bool {
        self.heard_ms.load(Relaxed) > 0
    }

    /// Shards in the list.
    pub fn members(&self) -> u32 {
        self.members.load(Relaxed)
    }

    /// Lists and watches that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Time since the API server last confirmed the list; before there was one, since the start.
    pub fn age(&self) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Relaxed).saturating_sub(1));
        self.began.elapsed().saturating_sub(heard)
    }

    /// For `/health`.
    pub fn told(&self) -> Told {
        Told {
            service: self.service.to_string(),
            members: self.members(),
            listed: self.has_listed(),
            age_seconds: self.age().as_secs_f64(),
            errors: self.errors(),
            error: self.error(),
        }
    }

    /// What is wrong, and what follows from it.
    pub fn trouble(&self) -> Option<String> {
        let error = self.error().filter(|_| self.age() > TROUBLE)?;
        Some(format!(
            "the list of shards is {} s old and stays in use: the API server says nothing new ({error})",
            self.age().as_secs()
        ))
    }

    fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn heard(&self) {
        self.heard_ms.store(self.began.elapsed().as_millis() as u64 + 1, Relaxed);
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if error.take().is_some() {
            tracing::info!(service = %self.service, "the API server is heard again");
        }
    }

    fn failed(&self, cause: &str) {
        self.errors.fetch_add(1, Relaxed);
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        // One line an outage, however often it is tried.
        if error.replace(cause.to_owned()).is_none() {
            tracing::warn!(service = %self.service, error = cause, "the API server is not heard, the list of shards stays");
        }
    }
}

/// Starts to follow `discovery`'s Service; ends with the process. Fails when there is no way to ask anybody.
pub fn start(gateway: Arc<Gateway>, discovery: Arc<Discovery>) -> Result<(), DiscoveryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(async {
        let mut config = Config::infer().await?;
        // No proxy, whatever the environment says: the API server is near.
        config.proxy_url = None;
        Ok::<_, DiscoveryError>(Client::try_from(config)?)
    })?;
    spawn_critical("discovery", gateway.failing(), move || runtime.block_on(run(gateway, discovery, client)))?;
    Ok(())
}

/// Follows until the gateway closes.
pub async fn run(gateway: Arc<Gateway>, discovery: Arc<Discovery>, client: Client) {
    let (found, listings) = watch::channel(None);
    let slices: Api<EndpointSlice> = Api::namespaced(client, &discovery.service.namespace);
    tokio::select! {
        () = api::follow(&slices, &discovery, &found) => {}
        () = settle(&gateway, &discovery, listings) => {}
        () = gateway.reached(Stage::Closing) => {}
    }
}

/// Keeps the table at the last listing.
async fn settle(gateway: &Gateway, discovery: &Discovery, mut listings: watch::Receiver<Option<Listing>>) {
    let mut roster = Roster::default();
    let mut unusable = 0;
    loop {
        let mut again = None;
        if let Some(listing) = &*listings.borrow_and_update() {
            if std::mem::replace(&mut unusable, listing.unusable) < listing.unusable {
                tracing::warn!(service = %discovery.service, endpoints = listing.unusable, wanted = ?slices::PORTS,
                    "endpoints cannot be used: their slice has no such ports, or they have no IP address");
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
