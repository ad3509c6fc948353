//! The child processes of a run: starts, replaces and removes them, each with its supervisor, its ports and the file
//! that it reads. Makes no decisions.
//!
//! A child keeps its ports and its revision through every restart after a failure. A new revision starts only by
//! [`Fleet::restart_shard`], or with a new child.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wscluster_api::Part;
use wscluster_routing::member::Member;
use wscluster_runtime::child_process::{Addresses, Program};
use wscluster_runtime::sockets::ListenError;

use super::admin::Restarts;
use super::program::{ProgramBuilder, RevisionFile};
use super::reserved_ports::ReservedPort;
use super::revision::Revision;
use super::run_folder::{RunFolder, RunFolderError};
use super::state::{SharedState, with};
use super::supervise::{ChildGoal, ChildOrder, ChildReport, HungChild, supervise};

/// Time for a child to end at once, before it is killed.
const HANGS: Duration = Duration::from_secs(1);

/// All children.
#[derive(Debug)]
pub(crate) struct Fleet {
    name: String,
    programs: ProgramBuilder,
    folder: RunFolder,
    gateway_port: ReservedPort,
    state: SharedState,
    restarts: Restarts,
    reports: mpsc::Sender<ChildReport>,
    supervisors: JoinSet<(Arc<str>, bool)>,
    children: Vec<Child>,
    gateways_started: u32,
}

/// One child.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) part: Part,
    pub(crate) ordinal: u32,
    pub(crate) name: Arc<str>,
    /// The revision that it runs.
    pub(crate) revision: String,
    pub(crate) at: Addresses,
    /// Set while its process is being ended on request.
    pub(crate) leaving: Option<Leaving>,
    /// When it accepted the order to drain, if it drains on our order.
    pub(crate) drain: Option<Instant>,
    /// When the last command to the child was completed. Earlier health answers do not show its effect.
    pub(crate) ordered: Option<Instant>,
    /// Its process refused to take a drain back, because it ends by itself.
    pub(crate) is_ending: bool,
    goal: watch::Sender<ChildGoal>,
    _ports: Vec<ReservedPort>,
}

/// The requested end of a child's process.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) since: Instant,
    order: ChildOrder,
    /// When the next order is due, which ends the process more forcefully.
    due: Instant,
    /// Revision and program of the successor, if there is one.
    next: Option<(String, Program)>,
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    #[error(transparent)]
    Port(#[from] ListenError),
    #[error(transparent)]
    Folder(#[from] RunFolderError),
}

/// A child that has ended as it was asked to.
#[derive(Debug)]
pub(crate) struct EndedChild {
    pub(crate) name: Arc<str>,
    /// Whether it had to be killed.
    pub(crate) killed: bool,
}

/// What follows the requested end of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// The child was removed.
    Removed,
    /// Its successor has been started.
    Replaced,
}

impl Fleet {
    /// No children yet. Shards are named after `name`; gateways listen on `gateway_port`.
    pub(crate) fn new(
        name: String,
        programs: ProgramBuilder,
        folder: RunFolder,
        gateway_port: ReservedPort,
        state: SharedState,
        restarts: Restarts,
        reports: mpsc::Sender<ChildReport>,
    ) -> Result<Self, FleetError> {
        folder.set_members(&[])?;
        let (supervisors, children) = (JoinSet::new(), Vec::new());
        Ok(Self {
            name,
            programs,
            folder,
            gateway_port,
            state,
            restarts,
            reports,
            supervisors,
            children,
            gateways_started: 0,
        })
    }

    /// The shards, by ordinal.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Child> {
        self.children.iter().filter(|child| child.part == Part::Shard)
    }

    /// The gateways, oldest first.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = &Child> {
        self.children.iter().filter(|child| child.part == Part::Gateway)
    }

    /// The shard at `ordinal`.
    pub(crate) fn shard(&mut self, ordinal: u32) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.part == Part::Shard && child.ordinal == ordinal)
    }

    /// The child of this name.
    pub(crate) fn child(&mut self, name: &str) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| &*child.name == name)
    }

    /// The name of the shard at `ordinal`, whether or not it exists.
    pub(crate) fn shard_name(&self, ordinal: u32) -> Arc<str> {
        format!("{}-{ordinal}", self.name).into()
    }

    /// Starts a shard on new ports, and adds it to the list that the gateways follow.
    pub(crate) fn start_shard(&mut self, ordinal: u32, revision: &Revision) -> Result<(), FleetError> {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let (ws, admin) = (ReservedPort::take(any)?, ReservedPort::take(any)?);
        let at = Addresses { ws: ws.addr(), admin: admin.addr() };
        let name = self.shard_name(ordinal);
        let file = self.folder.write("shard", revision)?;
        let program = self.programs.shard(&name, at, RevisionFile { revision, path: &file });
        let mut members = self.members();
        members.push(Member { name: name.to_string(), ws: at.ws, admin: at.admin });
        self.folder.set_members(&members)?;
        self.start(Part::Shard, ordinal, at, vec![ws, admin], (revision.id.clone(), program));
        Ok(())
    }

    /// Starts another gateway on the shared port, under a name that was never used in this run.
    pub(crate) fn start_gateway(&mut self, revision: &Revision) -> Result<Arc<str>, FleetError> {
        let admin = ReservedPort::take(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
        let at = Addresses { ws: self.gateway_port.addr(), admin: admin.addr() };
        let ordinal = self.gateways_started;
        let name: Arc<str> = format!("gateway-{ordinal}").into();
        let file = self.folder.write("gateway", revision)?;
        let program = self.programs.gateway(&name, at, RevisionFile { revision, path: &file }, &self.folder.members());
        self.gateways_started += 1;
        self.start(Part::Gateway, ordinal, at, vec![admin], (revision.id.clone(), program));
        Ok(name)
    }

    fn start(&mut self, part: Part, ordinal: u32, at: Addresses, ports: Vec<ReservedPort>, launch: (String, Program)) {
        let (revision, program) = launch;
        let name = program.name.clone();
        with(&self.state, |state| state.add(part, ordinal, &name, at));
        // Present from the start with 0, so that `increase()` sees the first restart.
        let _ = self.restarts.get_or_create(&[("child", name.to_string())]);
        let goal = self.supervise(program);
        let (leaving, drain, ordered, is_ending) = (None, None, None, false);
        let child =
            Child { part, ordinal, name, revision, at, leaving, drain, ordered, is_ending, goal, _ports: ports };
        let place = self.children.partition_point(|other| other.ordinal < ordinal);
        self.children.insert(place, child);
    }

    fn supervise(&mut self, program: Program) -> watch::Sender<ChildGoal> {
        let (goal, receiver) = watch::channel(ChildGoal::default());
        let reports = self.reports.clone();
        self.supervisors.spawn(async move {
            let name = program.name.clone();
            (name, supervise(program, reports, receiver).await)
        });
        goal
    }

    /// Ends the process of a shard, by force after `within`, and starts one of `revision` in its place.
    pub(crate) fn restart_shard(
        &mut self,
        ordinal: u32,
        revision: &Revision,
        within: Duration,
    ) -> Result<(), FleetError> {
        let file = self.folder.write("shard", revision)?;
        let Some(child) = self.children.iter_mut().find(|child| child.part == Part::Shard && child.ordinal == ordinal)
        else {
            return Ok(());
        };
        let program = self.programs.shard(&child.name, child.at, RevisionFile { revision, path: &file });
        let next = Some((revision.id.clone(), program));
        child.leave(&self.state, next, within);
        Ok(())
    }

    /// Ends and removes a child, by force after `within`.
    pub(crate) fn remove(&mut self, name: &str, within: Duration) {
        if let Some(child) = self.children.iter_mut().find(|child| &*child.name == name) {
            child.leave(&self.state, None, within);
        }
    }

    /// Sends a harder signal to children that should have ended by `now`.
    pub(crate) fn escalate(&mut self, now: Instant) {
        for child in &mut self.children {
            if let Some(leaving) = &mut child.leaving
                && leaving.due <= now
                && leaving.order < ChildOrder::Kill
            {
                leaving.order = if leaving.order == ChildOrder::Stop { ChildOrder::StopNow } else { ChildOrder::Kill };
                leaving.due = now + HANGS;
                child.goal.send_modify(|goal| goal.order = goal.order.max(leaving.order));
            }
        }
    }

    /// Gives `order` to every child.
    pub(crate) fn order(&self, order: ChildOrder) {
        for child in &self.children {
            child.goal.send_modify(|goal| goal.order = goal.order.max(order));
        }
    }

    /// Ends a process that hangs; its supervisor then restarts it.
    pub(crate) fn end_hung(&self, name: &str, hung: HungChild) {
        if let Some(child) = self.children.iter().find(|child| &*child.name == name) {
            child.goal.send_modify(|goal| goal.hung = Some(hung));
        }
    }

    /// The process of a child ended by itself, and with it any drain.
    pub(crate) fn exited(&mut self, name: &str) {
        if let Some(child) = self.child(name) {
            (child.drain, child.ordered, child.is_ending) = (None, None, false);
        }
    }

    /// Waits until a child has ended as it was asked to; `None` without children.
    pub(crate) async fn ended(&mut self) -> Option<EndedChild> {
        loop {
            match self.supervisors.join_next().await? {
                Ok((name, killed)) => return Some(EndedChild { name, killed }),
                Err(error) => tracing::error!(%error, "the supervisor of a child failed"),
            }
        }
    }

    /// Starts the successor of an ended child, or removes the child.
    pub(crate) fn follow_up(&mut self, ended: &EndedChild) -> Result<FollowUp, FleetError> {
        let Some(index) = self.children.iter().position(|child| child.name == ended.name) else {
            return Ok(FollowUp::Removed);
        };
        with(&self.state, |state| state.ended(&ended.name));
        let next = self.children[index].leaving.take().and_then(|leaving| leaving.next);
        if let Some((revision, program)) = next {
            with(&self.state, |state| state.leaves(&ended.name, false));
            let goal = self.supervise(program);
            let child = &mut self.children[index];
            (child.revision, child.goal) = (revision, goal);
            (child.drain, child.ordered, child.is_ending) = (None, None, false);
            return Ok(FollowUp::Replaced);
        }
        let child = self.children.remove(index);
        with(&self.state, |state| state.remove(&ended.name));
        self.restarts.remove(&[("child", ended.name.to_string())]);
        if child.part == Part::Shard {
            self.folder.set_members(&self.members())?;
        }
        Ok(FollowUp::Removed)
    }

    fn members(&self) -> Vec<Member> {
        let member = |child: &Child| Member { name: child.name.to_string(), ws: child.at.ws, admin: child.at.admin };
        self.shards().map(member).collect()
    }
}

impl Child {
    /// Whether a drain that it reports is not ours, and can be cancelled.
    pub(crate) fn is_drained_by_others(&self) -> bool {
        self.drain.is_none() && self.leaving.is_none() && !self.is_ending
    }

    fn leave(&mut self, state: &SharedState, next: Option<(String, Program)>, within: Duration) {
        let now = Instant::now();
        self.leaving = Some(Leaving { since: now, order: ChildOrder::Stop, due: now + within, next });
        with(state, |state| state.leaves(&self.name, true));
        self.goal.send_modify(|goal| goal.order = goal.order.max(ChildOrder::Stop));
    }
}
