//! Children here are shell scripts that behave like a shard towards their parent.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use wscluster_runtime::child_process::Program;

use super::{Hung, Order, Report, Wanted, keep};
use crate::event::{Event, Exit};

const DEADLINE: Duration = Duration::from_secs(20);
const ANNOUNCE: &str = r#"echo '{"listening":{"ws":"127.0.0.1:1","admin":"127.0.0.1:2"}}'; "#;

struct Kept {
    reports: mpsc::Receiver<Report>,
    orders: watch::Sender<Wanted>,
    task: JoinHandle<bool>,
}

impl Kept {
    fn script(script: &str) -> Self {
        Self::program("/bin/sh", &["-c", script])
    }

    fn program(path: &str, args: &[&str]) -> Self {
        let (reports, receiver) = mpsc::channel(1_024);
        let (orders, order) = watch::channel(Wanted::default());
        let args = args.iter().map(Into::into).collect();
        let program = Program { name: "prices-0".into(), path: path.into(), args, env: vec![], listen: None };
        Self { reports: receiver, orders, task: tokio::spawn(keep(program, reports, order)) }
    }

    fn order(&self, order: Order) {
        self.orders.send_modify(|wanted| wanted.order = order);
    }

    async fn next(&mut self) -> Report {
        timeout(DEADLINE, self.reports.recv()).await.expect("in time").expect("a report")
    }

    async fn next_event(&mut self) -> Event {
        loop {
            if let Report::Event(event) = self.next().await {
                return event;
            }
        }
    }

    async fn killed(self) -> bool {
        timeout(DEADLINE, self.task).await.expect("in time").expect("no panic")
    }
}

fn runs(pid: u32) -> bool {
    wscluster_runtime::usage::usage(&pid.to_string()).is_some()
}

#[tokio::test]
async fn reports_where_a_child_listens() {
    let mut kept = Kept::script(&(ANNOUNCE.to_owned() + "cat"));
    let Event::Started(at) = kept.next_event().await else { panic!("not started") };
    assert_eq!((at.ws.port(), at.admin.port(), at.restarts), (1, 2, 0));
    assert!(runs(at.pid));
    kept.order(Order::End);
    assert!(!kept.killed().await);
    assert!(!runs(at.pid));
}

#[tokio::test]
async fn starts_a_killed_child_again() {
    let mut kept = Kept::script(&(ANNOUNCE.to_owned() + "cat"));
    let Event::Started(first) = kept.next_event().await else { panic!("not started") };
    let pid = rustix::process::Pid::from_raw(first.pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let Event::Exited { how, pid, .. } = kept.next_event().await else { panic!("not exited") };
    assert_eq!((how, pid), (Exit { code: None, signal: Some(9) }, first.pid));
    let Event::Restarted(second) = kept.next_event().await else { panic!("not restarted") };
    assert_eq!(second.restarts, 1);
    assert_ne!(second.pid, first.pid);
}

#[tokio::test]
async fn tells_the_last_lines_of_a_child_that_never_listens_and_tries_it_again() {
    let mut kept = Kept::script("echo no such topic >&2; exit 3");
    let mut tries = 0;
    let log = loop {
        match kept.next().await {
            Report::NeverListened { how, log, restart_in_ms, .. } => {
                assert_eq!((&*how, log), ("exit code 3", vec!["no such topic".to_owned()]));
                assert_eq!(restart_in_ms, 100 << tries);
                tries += 1;
            }
            Report::Log { .. } => {}
            Report::Event(Event::CrashLoop { log, .. }) => break log,
            Report::Event(event) => panic!("{event}"),
        }
    };
    assert_eq!((tries, log), (5, vec!["no such topic".to_owned()]));
    kept.order(Order::End);
    assert!(!kept.killed().await);
}

#[tokio::test]
async fn says_why_a_program_cannot_be_started() {
    let mut kept = Kept::program("/nowhere/wscluster", &[]);
    let Report::NeverListened { how, .. } = kept.next().await else { panic!("started?") };
    assert_eq!(how, "failed to start /nowhere/wscluster: No such file or directory (os error 2)");
    kept.order(Order::End);
    assert!(!kept.killed().await);
}

#[tokio::test]
async fn reports_a_crash_loop_with_the_last_lines() {
    let mut kept = Kept::script(&(ANNOUNCE.to_owned() + "echo out of slots >&2; exit 1"));
    let mut exits = 0;
    let log = loop {
        match kept.next_event().await {
            Event::Exited { .. } => exits += 1,
            Event::CrashLoop { log, exits: counted, .. } => {
                assert_eq!(counted, exits);
                break log;
            }
            _ => {}
        }
    };
    assert_eq!(exits, 5);
    assert_eq!(log, ["out of slots"]);
    kept.order(Order::End);
    assert!(!kept.killed().await, "it waited for its next start");
}

#[tokio::test]
async fn kills_a_child_that_does_not_end() {
    let mut kept = Kept::script(&("trap '' TERM; ".to_owned() + ANNOUNCE + "while :; do read line || :; done"));
    let Event::Started(at) = kept.next_event().await else { panic!("not started") };
    kept.order(Order::End);
    // It ignores the first order; the second one it cannot ignore.
    kept.order(Order::Kill);
    assert!(kept.killed().await);
    assert!(!runs(at.pid));
}

#[tokio::test]
async fn hung_child_is_killed_and_starts_again() {
    // It ignores SIGTERM, as one that is stopped does.
    let mut kept = Kept::script(&("trap '' TERM; ".to_owned() + ANNOUNCE + "while :; do read line || :; done"));
    let Event::Started(first) = kept.next_event().await else { panic!("not started") };
    let silent = Duration::from_secs(41);
    kept.orders.send_modify(|wanted| wanted.hung = Some(Hung { pid: first.pid, silent }));
    let Event::Hung { pid, silent_ms, .. } = kept.next_event().await else { panic!("not hung") };
    assert_eq!((pid, silent_ms), (first.pid, 41_000));
    let Event::Exited { how, .. } = kept.next_event().await else { panic!("not exited") };
    assert_eq!(how, Exit { code: None, signal: Some(9) });
    let Event::Restarted(second) = kept.next_event().await else { panic!("not restarted") };
    assert!(runs(second.pid), "what was said of the first life does not end the second");
    kept.order(Order::Kill);
    assert!(kept.killed().await);
}

#[tokio::test]
async fn child_notices_that_its_supervisor_is_gone() {
    let mut kept = Kept::script(&(ANNOUNCE.to_owned() + "cat; echo alone >&2"));
    let Event::Started(at) = kept.next_event().await else { panic!("not started") };
    drop(kept.orders);
    assert!(timeout(DEADLINE, kept.task).await.unwrap().unwrap());
    assert!(!runs(at.pid));
}

#[tokio::test]
async fn busy_logger_never_waits_for_its_reader() {
    // 20,000 lines are more than pipe and channel hold, and nobody reads the channel.
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; : >$0; cat";
    let args = ["-c".into(), script.into(), done.clone().into_os_string()].into();
    let (reports, _unread) = mpsc::channel(4);
    let (_orders, order) = watch::channel(Wanted::default());
    let program = Program { name: "prices-0".into(), path: "/bin/sh".into(), args, env: vec![], listen: None };
    let _task = tokio::spawn(keep(program, reports, order));
    let written = timeout(DEADLINE, async {
        while !done.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    written.await.expect("it logs without waiting");
}
