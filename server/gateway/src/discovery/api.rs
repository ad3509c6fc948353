//! Lists the slices of a Service and watches them, and starts over after any failure.
//!
//! Not `kube::runtime::watcher`: it hides the end of each watch and its bookmarks. These are how a list that does not
//! change is known to be current, and `age_seconds` in `/health` promises a confirmation every 60 s.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use wscluster_runtime::backoff::{Backoff, Jitter, Policy};

use super::Discovery;
use super::slices::Listing;

/// Waits after failures. Jitter, so that an API server that comes back is not met by all gateways at once.
const RETRY: Policy =
    Policy { first: Duration::from_millis(200), factor: 2, max: Duration::from_secs(5), jitter: Jitter::From(0.5) };

/// Requested length of a watch. Its end confirms a list that has not changed, and its absence reveals a lost
/// connection.
const WATCH_SECONDS: u32 = 60;

/// Time for an answer beyond the requested length.
const GRACE: Duration = Duration::from_secs(15);

/// A watch that lasted this long has not failed at once.
const STEADY: Duration = Duration::from_secs(1);

/// Gone: the list is older than what the API server remembers (RFC 9110 §15.5.11).
const GONE: u16 = 410;

#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("failed to list endpoint slices: {}", reason(.0))]
    List(#[source] kube::Error),
    #[error("failed to list endpoint slices: no answer for {} s", GRACE.as_secs())]
    Unanswered,
    #[error("failed to watch endpoint slices: {}", reason(.0))]
    Watch(#[source] kube::Error),
    #[error("failed to watch endpoint slices: silent for longer than the requested {WATCH_SECONDS} s")]
    Silent,
    #[error("failed to watch endpoint slices: the watch ended at once")]
    Short,
}

/// The status in the answer, or the chain of errors if there was no answer.
fn reason(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} {}", status.code, status.message);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// How a watch ended without a failure.
enum End {
    /// Its time was over.
    Over,
    /// The resource version is too old to continue from.
    Outdated,
}

/// Follows the Service without end.
pub(super) async fn follow(api: &Api<EndpointSlice>, discovery: &Discovery, found: &watch::Sender<Option<Listing>>) {
    let mut backoff = Backoff::new(RETRY);
    loop {
        let mut slices =
            Slices { api, discovery, found, by_name: BTreeMap::new(), version: String::new(), steady: false };
        let Err(error) = slices.list_and_watch().await else { continue };
        discovery.failed(&error.to_string());
        if slices.steady {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// The slices as last listed and watched.
struct Slices<'a> {
    api: &'a Api<EndpointSlice>,
    discovery: &'a Discovery,
    found: &'a watch::Sender<Option<Listing>>,
    by_name: BTreeMap<String, EndpointSlice>,
    /// Where the next watch begins.
    version: String,
    /// A watch has lasted for [`STEADY`].
    steady: bool,
}

impl Slices<'_> {
    /// `Ok` if a new list is needed at once.
    async fn list_and_watch(&mut self) -> Result<(), ApiError> {
        self.list().await?;
        loop {
            let began = Instant::now();
            let ended = self.watch().await;
            self.steady |= began.elapsed() >= STEADY;
            match ended? {
                // A watch that ends at once again and again is retried as slowly as one that fails.
                _ if began.elapsed() < STEADY => return Err(ApiError::Short),
                End::Outdated => return Ok(()),
                End::Over => {}
            }
        }
    }

    fn selector(&self) -> String {
        format!("kubernetes.io/service-name={}", self.discovery.service.name)
    }

    async fn list(&mut self) -> Result<(), ApiError> {
        let params = ListParams::default().labels(&self.selector());
        let list = timeout(GRACE, self.api.list(&params)).await.map_err(|_| ApiError::Unanswered)?;
        let list = list.map_err(ApiError::List)?;
        self.version = list.metadata.resource_version.unwrap_or_default();
        self.by_name = list.items.into_iter().map(|slice| (name(&slice), slice)).collect();
        self.publish();
        Ok(())
    }

    async fn watch(&mut self) -> Result<End, ApiError> {
        let params = WatchParams::default().labels(&self.selector()).timeout(WATCH_SECONDS);
        let silence = Duration::from_secs(WATCH_SECONDS.into()) + GRACE;
        let watch = timeout(GRACE, self.api.watch(&params, &self.version)).await.map_err(|_| ApiError::Silent)?;
        let mut events = match watch {
            Ok(events) => std::pin::pin!(events),
            Err(kube::Error::Api(status)) if status.code == GONE => return Ok(End::Outdated),
            Err(error) => return Err(ApiError::Watch(error)),
        };
        self.discovery.confirmed();
        while let Some(event) = timeout(silence, events.next()).await.map_err(|_| ApiError::Silent)? {
            match event.map_err(ApiError::Watch)? {
                WatchEvent::Added(slice) | WatchEvent::Modified(slice) => {
                    self.went_on(slice.metadata.resource_version.as_ref());
                    self.by_name.insert(name(&slice), slice);
                    self.publish();
                }
                WatchEvent::Deleted(slice) => {
                    self.went_on(slice.metadata.resource_version.as_ref());
                    self.by_name.remove(&name(&slice));
                    self.publish();
                }
                WatchEvent::Bookmark(bookmark) => {
                    self.went_on(Some(&bookmark.metadata.resource_version));
                    self.discovery.confirmed();
                }
                WatchEvent::Error(status) if status.code == GONE => return Ok(End::Outdated),
                WatchEvent::Error(status) => return Err(ApiError::Watch(kube::Error::Api(status))),
            }
        }
        self.discovery.confirmed();
        Ok(End::Over)
    }

    fn went_on(&mut self, version: Option<&String>) {
        if let Some(version) = version {
            self.version.clone_from(version);
        }
    }

    fn publish(&self) {
        self.found.send_replace(Some(Listing::read(self.by_name.values())));
        self.discovery.confirmed();
    }
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}
