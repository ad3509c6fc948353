//! The Lease of the operator: one of several replicas writes, and the others keep their caches warm.
//!
//! [`election`] decides; this module reads and writes the Lease, and publishes until when this process may write. A
//! process that stops in an orderly way releases the lease, so that the next one takes over at once.

mod election;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use self::election::{Election, Next, Record};

/// The lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("failed to {verb} the lease: {source}")]
    Api { verb: &'static str, source: Box<kube::Error> },
    #[error("failed to {verb} the lease: no answer within {within:?}")]
    Timeout { verb: &'static str, within: Duration },
}

/// Until when this process may write; `None` if it may not.
pub(crate) type WriteDeadline = watch::Receiver<Option<Instant>>;

/// A participant in the election.
#[derive(Debug)]
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    election: Election,
    start: Instant,
    acquired: Option<Timestamp>,
    until: watch::Sender<Option<Instant>>,
}

impl Candidate {
    /// A candidate for the lease `name`. `me` must be unique among all processes, including earlier ones.
    pub(crate) fn new(
        api: Api<Lease>,
        name: impl Into<String>,
        me: impl Into<String>,
        term: Duration,
    ) -> (Self, WriteDeadline) {
        let (until, deadline) = watch::channel(None);
        let election = Election::new(me, term);
        (Self { api, name: name.into(), election, start: Instant::now(), acquired: None, until }, deadline)
    }

    /// Acquires and renews the lease until `stop` becomes true, then releases it.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let pause = self.round().await;
            tokio::select! {
                () = sleep(pause) => {}
                // The sender is gone only while the process ends.
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.release().await;
    }

    /// Sends one or two requests, and returns the time until the next round.
    async fn round(&mut self) -> Duration {
        let pace = self.election.pace();
        let held = self.until.borrow().is_some();
        let outcome = match self.election.next(self.now()) {
            // Another process may have changed its lease since the last round.
            Next::Read | Next::Wait | Next::Claim(_) => self.read().await,
            Next::Create | Next::Renew(_) => Ok(()),
        };
        let outcome = match outcome {
            Ok(()) => self.write().await,
            failed => failed,
        };
        self.publish();
        if let Err(error) = outcome {
            warn!(lease = self.name, %error, held, "failed to read or write the lease");
            self.election.unsure();
            return pace / 5;
        }
        match self.election.until() {
            Some(_) => pace,
            // Jitter: candidates that started together should not send requests together.
            None => pace.mul_f64(rand::random_range(0.3..0.5)),
        }
    }

    async fn read(&mut self) -> Result<(), LeaseError> {
        let object = self.bounded("get", self.api.get_opt(&self.name)).await?;
        let now = self.now();
        self.election.read(object.as_ref().map(record), now);
        Ok(())
    }

    /// Writes the lease if the election requires it.
    async fn write(&mut self) -> Result<(), LeaseError> {
        let sent = self.now();
        let how = PostParams::default();
        let object = match self.election.next(sent) {
            Next::Read | Next::Wait => return Ok(()),
            Next::Create => {
                let object = self.object(None, 0, Some(Timestamp::now()));
                self.bounded("create", self.api.create(&how, &object)).await?
            }
            Next::Claim(known) => {
                let object = self.object(Some(known.version), known.transitions + 1, Some(Timestamp::now()));
                self.bounded("update", self.api.replace(&self.name, &how, &object)).await?
            }
            Next::Renew(known) => {
                let object = self.object(Some(known.version), known.transitions, self.acquired);
                self.bounded("update", self.api.replace(&self.name, &how, &object)).await?
            }
        };
        self.acquired = object.spec.as_ref().and_then(|spec| spec.acquire_time.as_ref()).map(|time| time.0);
        self.election.written(record(&object), sent);
        Ok(())
    }

    fn object(&self, version: Option<String>, transitions: i32, acquired: Option<Timestamp>) -> Lease {
        Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), resource_version: version, ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.me().to_owned()),
                lease_duration_seconds: Some(self.election.term().as_secs() as i32),
                acquire_time: acquired.map(MicroTime),
                renew_time: Some(MicroTime(Timestamp::now())),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Stops writing, then releases the lease.
    async fn release(&mut self) {
        let held = self.election.until().is_some();
        let known = self.election.next(self.now());
        self.election.stop();
        self.publish();
        let (true, Next::Renew(known)) = (held, known) else { return };
        let mut object = self.object(Some(known.version), known.transitions, self.acquired);
        if let Some(spec) = &mut object.spec {
            spec.holder_identity = Some(String::new());
        }
        match self.bounded("update", self.api.replace(&self.name, &PostParams::default(), &object)).await {
            Ok(_) => info!(lease = self.name, "lease released"),
            Err(error) => warn!(lease = self.name, %error, "lease not released; it will expire"),
        }
    }

    async fn bounded<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, LeaseError> {
        let within = self.election.pace();
        match timeout(within, call).await {
            Ok(answer) => answer.map_err(|source| LeaseError::Api { verb, source: Box::new(source) }),
            Err(_) => Err(LeaseError::Timeout { verb, within }),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Publishes until when this process may write.
    fn publish(&self) {
        let now = self.now();
        let until = self.election.until().filter(|until| *until > now).map(|until| self.start + until);
        let before = self.until.send_replace(until);
        match (before.is_some(), until.is_some()) {
            (false, true) => info!(lease = self.name, me = self.election.me(), "lease acquired"),
            (true, false) => info!(lease = self.name, me = self.election.me(), "lease no longer held"),
            _ => {}
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        term: Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0) as u64),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}
