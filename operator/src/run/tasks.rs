//! The parts of the running operator: admin port, election, watches, controllers; and what goes from one to another.

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
use crate::health::{ClusterName, Health};
use crate::lease::{Candidate, Until};
use crate::metrics::Metrics;
use crate::shard::Http;
use crate::watch::{Guarded, Scope, listed};
use crate::{admin, client};

/// How long reconciles under way may take to end.
const GRACE: Duration = Duration::from_secs(8);

/// The parts, running.
pub(crate) struct Parts {
    /// Those that never end by themselves; each says what it is.
    endless: JoinSet<&'static str>,
    controllers: JoinSet<()>,
    candidate: JoinHandle<()>,
    halt: watch::Sender<bool>,
    resign: watch::Sender<bool>,
}

impl Parts {
    /// Starts everything, towards the API server of `config`.
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
        let (changed, moves) = mpsc::unbounded_channel();
        let health = Health::new(Arc::new(Http::default()), args.health_interval.0, Arc::clone(&metrics), changed);
        let events = Events::new(client.clone(), Arc::clone(&metrics), name);
        let namespaces = args.settings.namespaces.clone();
        let operator = Operator::new(client.clone(), args.settings, health, events, Arc::clone(&metrics), until);
        Ok(Self::run(&client, Arc::new(operator), &namespaces, candidate, admin, set_ready, moves))
    }

    fn run(
        client: &Client,
        operator: Arc<Operator>,
        namespaces: &[String],
        candidate: Candidate,
        admin: impl Future<Output = std::io::Result<()>> + Send + 'static,
        ready: watch::Sender<bool>,
        moves: mpsc::UnboundedReceiver<ClusterName>,
    ) -> Self {
        let (halt, halted) = watch::channel(false);
        let (resign, resigned) = watch::channel(false);
        let (mut endless, mut controllers, mut scopes) = (JoinSet::new(), JoinSet::new(), Vec::new());
        let all = [None];
        let each: Vec<_> = namespaces.iter().cloned().map(Some).collect();
        for namespace in if each.is_empty() { &all[..] } else { &each } {
            let (queue, named) = mpsc::unbounded_channel();
            let (scope, watches) = Scope::new(client, namespace.clone(), &operator.metrics, queue);
            endless.spawn(watches.map(|()| "a watch"));
            scopes.push(scope.clone());
            let (operator, mut halted) = (Arc::clone(&operator), halted.clone());
            controllers.spawn(async move {
                scope.listed().await;
                let halt = async move { drop(halted.wait_for(|halt| *halt).await) };
                controller::run(operator, scope, received(named).take_until(Box::pin(halt))).await;
            });
        }
        endless.spawn(admin.map(|_| "the admin port"));
        endless.spawn(forward(moves, scopes.clone()).map(|()| "the health of shards"));
        endless.spawn(async move {
            listed(&scopes).await;
            info!("every watch has listed");
            ready.send_replace(true);
            lead(&operator, &scopes).await;
            "the election"
        });
        Self { endless, controllers, candidate: tokio::spawn(candidate.run(resigned)), halt, resign }
    }

    /// Which part ended by itself.
    pub(crate) async fn ended(&mut self) -> &'static str {
        tokio::select! {
            Some(part) = self.endless.join_next() => part.unwrap_or("a part that panicked"),
            Some(_) = self.controllers.join_next() => "a controller",
            _ = &mut self.candidate => "the election",
        }
    }

    /// Ends: reconciles first, then the lease, which is renewed until nothing is under way any more.
    pub(crate) async fn end(&mut self) {
        self.halt.send_replace(true);
        let all = async { while self.controllers.join_next().await.is_some() {} };
        if timeout(GRACE, all).await.is_err() {
            warn!("reconciles take too long to end; leaving them");
            self.controllers.abort_all();
        }
        self.resign.send_replace(true);
        // A panic there has been told.
        let _ = (&mut self.candidate).await;
    }
}

fn received<T>(mut receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> {
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// Names clusters whose shards have news.
async fn forward(mut moves: mpsc::UnboundedReceiver<ClusterName>, scopes: Vec<Scope>) {
    while let Some((namespace, name)) = moves.recv().await {
        let of = |scope: &&Scope| scope.namespace.as_ref().is_none_or(|of| *of == namespace);
        if let Some(scope) = scopes.iter().find(of) {
            scope.look(ObjectRef::<Guarded>::new(&name).within(&namespace));
        }
    }
}

/// Looks at every cluster whenever the lease is acquired, and forgets what it knows when it is lost.
async fn lead(operator: &Operator, scopes: &[Scope]) {
    let mut until: Until = operator.until.clone();
    loop {
        let leads = operator.leads();
        let led = operator.metrics.leader.set(i64::from(leads)) == 1;
        match (led, leads) {
            (false, true) => scopes.iter().for_each(Scope::all),
            (true, false) => operator.rest(),
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
