//! What the processes of a run hold: descriptors, threads, memory, and TCP sockets by state.

use std::collections::{BTreeMap, BTreeSet};

use procfs::process::Process;

use crate::error::{Error, Result};
use crate::local::Local;
use crate::report::round;

/// The processes of a run and their ports.
#[derive(Debug)]
pub(super) struct Subject {
    processes: Vec<(String, u32)>,
    ports: BTreeSet<u16>,
}

/// What they hold at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Footprint {
    processes: BTreeMap<String, Held>,
    /// Sockets by state.
    sockets: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Held {
    fds: u64,
    threads: u64,
    mib: f64,
}

/// The process with the embedded broker keeps every record in memory.
const LOCAL: &str = "local";

impl Subject {
    pub(super) fn of(local: &Local) -> Self {
        let ready = &local.ready;
        let shards = ready.shards.iter().map(|shard| (shard.name.clone(), shard.pid));
        let gateways = ready.gateways.iter().enumerate().map(|(i, gateway)| (format!("gateway-{i}"), gateway.pid));
        let processes = shards.chain(gateways).chain([(LOCAL.to_owned(), local.pid())]).collect();
        let ports = ready.shards.iter().map(|shard| shard.ws.port()).chain([ready.gateway.port()]).collect();
        Self { processes, ports }
    }

    /// What they hold now. A process that has ended holds nothing.
    pub(super) fn footprint(&self) -> Result<Footprint> {
        let mut footprint = Footprint::default();
        for (name, pid) in &self.processes {
            if let Some(held) = held(*pid) {
                footprint.processes.insert(name.clone(), held);
            }
        }
        let tables = [procfs::net::tcp(), procfs::net::tcp6()];
        for table in tables {
            let table = table.map_err(|error| Error::Unusable(format!("failed to read the sockets: {error}")))?;
            for socket in table {
                if [socket.local_address, socket.remote_address].iter().any(|addr| self.ports.contains(&addr.port())) {
                    *footprint.sockets.entry(format!("{:?}", socket.state)).or_default() += 1;
                }
            }
        }
        Ok(footprint)
    }
}

fn held(pid: u32) -> Option<Held> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    let usage = wscluster_runtime::usage::usage(&pid.to_string())?;
    Some(Held {
        fds: process.fd_count().ok()? as u64,
        threads: u64::try_from(stat.num_threads).ok()?,
        mib: usage.rss_bytes as f64 / f64::from(1 << 20),
    })
}

impl Footprint {
    /// This with the sockets of `other`, which no client has used yet.
    pub(super) fn with_sockets_of(self, other: Self) -> Self {
        Self { sockets: other.sockets, ..self }
    }

    /// Both footprints of each process.
    fn pairs<'f>(&'f self, before: &'f Self) -> impl Iterator<Item = (&'f String, Held, Held)> {
        self.processes
            .iter()
            .map(|(name, after)| (name, before.processes.get(name).copied().unwrap_or_default(), *after))
    }

    /// Processes of `before` that have ended.
    pub(super) fn ended(&self, before: &Self) -> u64 {
        before.processes.keys().filter(|name| !self.processes.contains_key(*name)).count() as u64
    }

    /// The most descriptors that a process has more than before.
    pub(super) fn more_fds(&self, before: &Self) -> u64 {
        self.pairs(before).map(|(_, before, after)| after.fds.saturating_sub(before.fds)).max().unwrap_or(0)
    }

    /// The most threads that a process has more than before.
    pub(super) fn more_threads(&self, before: &Self) -> u64 {
        self.pairs(before).map(|(_, before, after)| after.threads.saturating_sub(before.threads)).max().unwrap_or(0)
    }

    /// The most MiB that a process has above `percent` more than before.
    pub(super) fn more_memory(&self, before: &Self, percent: f64) -> f64 {
        let served = self.pairs(before).filter(|(name, ..)| *name != LOCAL);
        served.map(|(_, before, after)| after.mib - before.mib * (1.0 + percent / 100.0)).fold(0.0, f64::max)
    }

    /// The most sockets in one state more than before.
    pub(super) fn more_sockets(&self, before: &Self) -> u64 {
        let more =
            |(state, after): (&String, &u64)| after.saturating_sub(before.sockets.get(state).copied().unwrap_or(0));
        self.sockets.iter().map(more).max().unwrap_or(0)
    }

    /// Rows of a table.
    pub(super) fn processes_from(&self, before: &Self) -> Vec<Vec<String>> {
        let row = |(name, before, after): (&String, Held, Held)| {
            let whole = |before: u64, after: u64| format!("{before} → {after}");
            let mib = format!("{} → {}", round(before.mib), round(after.mib));
            vec![name.clone(), whole(before.fds, after.fds), whole(before.threads, after.threads), mib]
        };
        self.pairs(before).map(row).collect()
    }

    /// Rows of a table.
    pub(super) fn sockets_from(&self, before: &Self) -> Vec<Vec<String>> {
        let states: BTreeSet<_> = before.sockets.keys().chain(self.sockets.keys()).collect();
        let count = |footprint: &Self, state: &str| footprint.sockets.get(state).copied().unwrap_or(0).to_string();
        states.into_iter().map(|state| vec![state.clone(), count(before, state), count(self, state)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    fn footprint(fds: u64, threads: u64, mib: f64, time_wait: u64) -> Footprint {
        let held = Held { fds, threads, mib };
        Footprint {
            processes: [("s-0".to_owned(), held), (LOCAL.to_owned(), Held { mib: mib * 9.0, ..held })].into(),
            sockets: [("TimeWait".to_owned(), time_wait)].into(),
        }
    }

    #[test]
    fn counts_what_was_not_given_back() {
        let (before, after) = (footprint(10, 4, 100.0, 0), footprint(13, 5, 150.0, 7));
        assert_eq!((after.more_fds(&before), after.more_threads(&before), after.more_sockets(&before)), (3, 1, 7));
        assert!((after.more_memory(&before, 25.0) - 25.0).abs() < 1e-9);
        assert_eq!((before.more_fds(&after), before.more_sockets(&after), before.ended(&after)), (0, 0, 0));
        assert_eq!(Footprint::default().ended(&before), 2);
    }

    #[test]
    fn sees_the_files_of_a_process_and_the_sockets_of_a_port() {
        // A process of its own, because other tests open and close files in this one meanwhile.
        let mut shell = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let subject = Subject { processes: vec![("shell".to_owned(), shell.id())], ports: [port].into() };
        let before = subject.footprint().unwrap();
        assert_eq!(before.sockets, [("Listen".to_owned(), 1)].into());
        let streams: Vec<_> = (0..9).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        shell.stdin.as_mut().unwrap().write_all(b"exec 8</dev/null 9</dev/null; echo opened\n").unwrap();
        let mut answer = [0; 7];
        shell.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
        let after = subject.footprint().unwrap();
        assert_eq!((after.more_fds(&before), after.more_sockets(&before)), (2, 18), "{before:?} {after:?}");
        drop((streams, shell.stdin.take()));
        assert!(shell.wait().unwrap().success());
    }
}
