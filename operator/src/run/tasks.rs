//! The tasks of the running operator (admin port, election, watches, controllers) and the channels between them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Config};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep_until, timeout};
use tracing::{info, warn};

use super::{Args, RunError};
use crate::controller::{self, Operator};
use crate::events::Events;
use crate::health::{ClusterName, HealthProber};
use crate::lease::{Candidate, WriteDeadline};
use crate::metrics::Metrics;
use crate::shard_client::HttpShardClient;
use crate::watch::{Guarded, Scope, listed};
use crate::{admin, client};

/// How long running reconciles may take to complete.
const GRACE: Duration = Duration::from_secs(8);

/// The running tasks.
pub(crate) struct Tasks {
    /// Tasks that never end; each returns its name.
    endless: JoinSet<&'static str>,
    controllers: JoinSet<()>,
    candidate: JoinHandle<()>,
    halt: watch::Sender<bool>,
    resign: watch::Sender<bool>,
}

impl Tasks {
    /// Starts all tasks with the API server of `config`.
    pub(crate) async fn start(args: Args, config: Config) -> Result<Self, RunError> {
        let metrics = Arc::new(Metrics::new());
        let (set_ready, ready) = watch::channel(false);
        let admin = admin::serve(args.admin, Arc::clone(&metrics), ready).await?;
        let host = || std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
        let name = args.name.unwrap_or_else(host);
        // A container that was restarted in its pod is another candidate.
        let me = format!("{name}_{:08x}", rand::random::<u32>());
        info!(me, namespaces = ?args.settings.namespaces, admin = %args.admin, image = args.settings.image, "starting");

        let failed = |error| RunError::Client(Box::new(error));
        let leases = client::unfenced(config.clone(), &metrics).map_err(failed)?;
        let leases: Api<Lease> = Api::namespaced(leases, &args.settings.own_namespace);
        let (candidate, until) = Candidate::new(leases, args.lease, me, args.lease_duration.0);
        let client = client::fenced(config, &metrics, until.clone()).map_err(failed)?;
        let (report, changes) = mpsc::unbounded_channel();
        let shards = Arc::new(HttpShardClient::default());
        let health = HealthProber::new(shards, args.health_interval.0, Arc::clone(&metrics), report);
        let events = Events::new(client.clone(), Arc::clone(&metrics), name);
        let namespaces = args.settings.namespaces.clone();
        let operator = Operator::new(client.clone(), args.settings, health, events, Arc::clone(&metrics), until);
        Ok(Self::run(&client, Arc::new(operator), &namespaces, candidate, admin, set_ready, changes))
    }

    fn run(
        client: &Client,
        operator: Arc<Operator>,
        namespaces: &[String],
        candidate: Candidate,
        admin: impl Future<Output = ()> + Send + 'static,
        ready: watch::Sender<bool>,
        changes: mpsc::UnboundedReceiver<ClusterName>,
    ) -> Self {
        let (halt, halted) = watch::channel(false);
        let (resign, resigned) = watch::channel(false);
        let (mut endless, mut controllers, mut scopes) = (JoinSet::new(), JoinSet::new(), Vec::new());
        let all = [None];
        let each: Vec<_> = namespaces.iter().cloned().map(Some).collect();
        for namespace in if each.is_empty() { &all[..] } else { &each } {
            let (queue, queued) = mpsc::unbounded_channel();
            let (scope, watches) = Scope::new(client, namespace.clone(), &operator.metrics, queue);
            endless.spawn(watches.map(|()| "a watch"));
            scopes.push(scope.clone());
            let (operator, mut halted) = (Arc::clone(&operator), halted.clone());
            controllers.spawn(async move {
                scope.listed().await;
                let halt = async move { drop(halted.wait_for(|halt| *halt).await) };
                controller::run(operator, scope, received(queued).take_until(Box::pin(halt))).await;
            });
        }
        endless.spawn(admin.map(|()| "the admin server"));
        endless.spawn(forward(changes, scopes.clone()).map(|()| "the health prober"));
        endless.spawn(async move {
            listed(&scopes).await;
            info!("all watches have listed");
            ready.send_replace(true);
            lead(&operator, &scopes).await;
            "the election"
        });
        Self { endless, controllers, candidate: tokio::spawn(candidate.run(resigned)), halt, resign }
    }

    /// Waits until a task ends unexpectedly, and returns its name.
    pub(crate) async fn ended(&mut self) -> &'static str {
        tokio::select! {
            Some(task) = self.endless.join_next() => task.unwrap_or("a task that panicked"),
            Some(_) = self.controllers.join_next() => "a controller",
            _ = &mut self.candidate => "the election",
        }
    }

    /// Stops the controllers first, then releases the lease, which is renewed until all reconciles are complete.
    pub(crate) async fn end(&mut self) {
        self.halt.send_replace(true);
        let all = async { while self.controllers.join_next().await.is_some() {} };
        if timeout(GRACE, all).await.is_err() {
            warn!("reconciles did not complete in time; aborting them");
            self.controllers.abort_all();
        }
        self.resign.send_replace(true);
        // The panic handler has reported a panic of the task.
        let _ = (&mut self.candidate).await;
    }
}

fn received<T>(mut receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> {
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// Queues clusters whose shards have changed.
async fn forward(mut changes: mpsc::UnboundedReceiver<ClusterName>, scopes: Vec<Scope>) {
    while let Some((namespace, name)) = changes.recv().await {
        let of = |scope: &&Scope| scope.namespace.as_ref().is_none_or(|of| *of == namespace);
        if let Some(scope) = scopes.iter().find(of) {
            scope.queue(ObjectRef::<Guarded>::new(&name).within(&namespace));
        }
    }
}

/// Queues every cluster when the lease is acquired, and forgets all clusters when it is lost.
async fn lead(operator: &Operator, scopes: &[Scope]) {
    let mut until: WriteDeadline = operator.until.clone();
    loop {
        let leads = operator.leads();
        let led = operator.metrics.leader.set(i64::from(leads)) == 1;
        match (led, leads) {
            (false, true) => scopes.iter().for_each(Scope::queue_all),
            (true, false) => operator.stand_by(),
            _ => {}
        }
        let end = *until.borrow_and_update();
        let over = async {
            match end.filter(|_| leads) {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = until.changed() => if changed.is_err() { return },
            () = over => {}
        }
    }
}
