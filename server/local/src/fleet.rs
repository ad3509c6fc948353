//! The children of a run: started, replaced and taken away, each with its supervisor, its ports and the file it reads. Carries
//! out and decides nothing.
//!
//! Each child keeps its ports and its version through every restart that nobody asked for; a new version comes only by
//! [`Fleet::restart_shard`], or with a new child.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use wscluster_routing::member::Member;
use wscluster_runtime::child_process::Program;
use wscluster_runtime::sockets::ListenError;

use super::admin::Restarts;
use super::health_poller::{Shared, with};
use super::program::{At, Kind, Setting, Written};
use super::reserved_ports::Reserved;
use super::revision::Version;
use super::run_folder::{Files, FilesError};
use super::supervise::{Hung, Order, Report, Wanted, keep};

/// A child that was told to end at once and has not after this long is killed.
const HANGS: Duration = Duration::from_secs(1);

/// All children.
#[derive(Debug)]
pub struct Fleet {
    name: String,
    setting: Setting,
    files: Files,
    front: Reserved,
    board: Shared,
    restarts: Restarts,
    reports: mpsc::Sender<Report>,
    supervisors: JoinSet<(Arc<str>, bool)>,
    parts: Vec<Part>,
    gateways_started: u32,
}

/// One child.
#[derive(Debug)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Its place among its kind.
    pub ordinal: u32,
    /// Its name.
    pub name: Arc<str>,
    /// What it runs.
    pub revision: String,
    /// Where it listens.
    pub at: At,
    /// Since when it is on its way out.
    pub leaving: Option<Leaving>,
    /// The drain that it was told to begin.
    pub drain: Option<Instant>,
    /// When it was last told to drain or to stop that: what it said before is void.
    pub acted: Option<Instant>,
    wanted: watch::Sender<Wanted>,
    _ports: Vec<Reserved>,
}

/// The end of a child's process.
#[derive(Debug)]
pub struct Leaving {
    /// Since when.
    pub since: Instant,
    told: Order,
    due: Instant,
    next: Option<(String, Program)>,
}

/// Why a child cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A port.
    #[error(transparent)]
    Port(#[from] ListenError),
    /// A file.
    #[error(transparent)]
    Files(#[from] FilesError),
}

/// A child whose supervisor has ended.
#[derive(Debug)]
pub struct Left {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it had to be killed.
    pub killed: bool,
}

/// What follows when a child has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is gone for good.
    Gone,
    /// Its successor starts.
    Replaced,
}

impl Fleet {
    /// A fleet without children, whose gateways listen on `front`.
    pub fn new(
        name: String,
        setting: Setting,
        front: Reserved,
        board: Shared,
        restarts: Restarts,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self, FleetError> {
        let files = Files::new()?;
        files.set_members(&[])?;
        let (supervisors, parts) = (JoinSet::new(), Vec::new());
        Ok(Self { name, setting, files, front, board, restarts, reports, supervisors, parts, gateways_started: 0 })
    }

    /// The shards, by ordinal.
    pub fn shards(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.kind == Kind::Shard)
    }

    /// The gateways, oldest first.
    pub fn gateways(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.kind == Kind::Gateway)
    }

    /// The shard at `ordinal`.
    pub fn shard(&mut self, ordinal: u32) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.kind == Kind::Shard && part.ordinal == ordinal)
    }

    /// The name of the shard at `ordinal`, whether there is one or not.
    pub fn shard_name(&self, ordinal: u32) -> Arc<str> {
        format!("{}-{ordinal}", self.name).into()
    }

    /// Starts a shard on ports of its own, and tells the gateways.
    pub fn start_shard(&mut self, ordinal: u32, version: &Version) -> Result<(), FleetError> {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let (ws, admin) = (Reserved::take(any)?, Reserved::take(any)?);
        let at = At { ws: ws.addr(), admin: admin.addr() };
        let name = self.shard_name(ordinal);
        let file = self.files.write("shard", version)?;
        let program = self.setting.shard(&name, at, Written { version, file: &file });
        let mut members = self.members();
        members.push(Member { name: name.to_string(), ws: at.ws, admin: at.admin });
        self.files.set_members(&members)?;
        self.start(Kind::Shard, ordinal, at, vec![ws, admin], (version.revision.clone(), program));
        Ok(())
    }

    /// Starts a gateway beside the others, with a name that none had before.
    pub fn start_gateway(&mut self, version: &Version) -> Result<Arc<str>, FleetError> {
        let admin = Reserved::take(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
        let at = At { ws: self.front.addr(), admin: admin.addr() };
        let ordinal = self.gateways_started;
        let name: Arc<str> = format!("gateway-{ordinal}").into();
        let file = self.files.write("gateway", version)?;
        let program = self.setting.gateway(&name, at, Written { version, file: &file }, &self.files.members());
        self.gateways_started += 1;
        self.start(Kind::Gateway, ordinal, at, vec![admin], (version.revision.clone(), program));
        Ok(name)
    }

    fn start(&mut self, kind: Kind, ordinal: u32, at: At, ports: Vec<Reserved>, launch: (String, Program)) {
        let (revision, program) = launch;
        let name = program.name.clone();
        with(&self.board, |board| board.add(kind, ordinal, &name, at));
        // A series that is there before its first event has a rate.
        let _ = self.restarts.get_or_create(&[("child", name.to_string())]);
        let wanted = self.supervise(program);
        let (leaving, drain, acted) = (None, None, None);
        let part = Part { kind, ordinal, name, revision, at, leaving, drain, acted, wanted, _ports: ports };
        let place = self.parts.partition_point(|other| other.ordinal < ordinal);
        self.parts.insert(place, part);
    }

    fn supervise(&mut self, program: Program) -> watch::Sender<Wanted> {
        let (wanted, orders) = watch::channel(Wanted::default());
        let reports = self.reports.clone();
        self.supervisors.spawn(async move {
            let name = program.name.clone();
            (name, keep(program, reports, orders).await)
        });
        wanted
    }

    /// Ends the process of a shard, within `within` or by force, and starts one of `version` in its place.
    pub fn restart_shard(&mut self, ordinal: u32, version: &Version, within: Duration) -> Result<(), FleetError> {
        let file = self.files.write("shard", version)?;
        let Some(part) = self.parts.iter_mut().find(|part| part.kind == Kind::Shard && part.ordinal == ordinal) else {
            return Ok(());
        };
        let program = self.setting.shard(&part.name, part.at, Written { version, file: &file });
        let next = Some((version.revision.clone(), program));
        part.leave(&self.board, next, within);
        Ok(())
    }

    /// Takes a child away, within `within` or by force.
    pub fn remove(&mut self, name: &str, within: Duration) {
        if let Some(part) = self.parts.iter_mut().find(|part| &*part.name == name) {
            part.leave(&self.board, None, within);
        }
    }

    /// Presses those that should have ended by now.
    pub fn press(&mut self, now: Instant) {
        for part in &mut self.parts {
            if let Some(leaving) = &mut part.leaving
                && leaving.due <= now
                && leaving.told < Order::Kill
            {
                leaving.told = if leaving.told == Order::End { Order::AtOnce } else { Order::Kill };
                leaving.due = now + HANGS;
                part.wanted.send_modify(|wanted| wanted.order = wanted.order.max(leaving.told));
            }
        }
    }

    /// Orders every child.
    pub fn order(&self, order: Order) {
        for part in &self.parts {
            part.wanted.send_modify(|wanted| wanted.order = wanted.order.max(order));
        }
    }

    /// Ends a life of a child that hangs.
    pub fn end_hung(&self, name: &str, hung: Hung) {
        if let Some(part) = self.parts.iter().find(|part| &*part.name == name) {
            part.wanted.send_modify(|wanted| wanted.hung = Some(hung));
        }
    }

    /// A child ended by itself: a drain it was told to begin is over.
    pub fn ended(&mut self, name: &str) {
        if let Some(part) = self.parts.iter_mut().find(|part| &*part.name == name) {
            (part.drain, part.acted) = (None, None);
        }
    }

    /// Waits until a child has left as it was ordered; none when there is no child.
    pub async fn left(&mut self) -> Option<Left> {
        loop {
            match self.supervisors.join_next().await? {
                Ok((name, killed)) => return Some(Left { name, killed }),
                Err(error) => tracing::error!(%error, "supervisor ended"),
            }
        }
    }

    /// Starts the successor of a child that has left, or forgets it.
    pub fn follow_up(&mut self, left: &Left) -> Result<After, FleetError> {
        let Some(place) = self.parts.iter().position(|part| part.name == left.name) else { return Ok(After::Gone) };
        with(&self.board, |board| board.ended(&left.name));
        let next = self.parts[place].leaving.take().and_then(|leaving| leaving.next);
        if let Some((revision, program)) = next {
            with(&self.board, |board| board.leaves(&left.name, false));
            let wanted = self.supervise(program);
            let part = &mut self.parts[place];
            (part.revision, part.wanted, part.drain, part.acted) = (revision, wanted, None, None);
            return Ok(After::Replaced);
        }
        let part = self.parts.remove(place);
        with(&self.board, |board| board.remove(&left.name));
        self.restarts.remove(&[("child", left.name.to_string())]);
        if part.kind == Kind::Shard {
            self.files.set_members(&self.members())?;
        }
        Ok(After::Gone)
    }

    fn members(&self) -> Vec<Member> {
        let member = |part: &Part| Member { name: part.name.to_string(), ws: part.at.ws, admin: part.at.admin };
        self.shards().map(member).collect()
    }
}

impl Part {
    fn leave(&mut self, board: &Shared, next: Option<(String, Program)>, within: Duration) {
        let now = Instant::now();
        self.leaving = Some(Leaving { since: now, told: Order::End, due: now + within, next });
        with(board, |board| board.leaves(&self.name, true));
        self.wanted.send_modify(|wanted| wanted.order = wanted.order.max(Order::End));
    }
}
