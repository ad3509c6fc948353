//! The children are shell scripts that behave towards their parent like a shard.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wscluster_runtime::child_process::Program;

use super::{ChildGoal, ChildOrder, ChildReport, HungChild, supervise};
use crate::event::{ChildExit, Event};

const DEADLINE: Duration = Duration::from_secs(20);
const ANNOUNCE: &str = r#"echo '{"listening":{"ws":"127.0.0.1:1","admin":"127.0.0.1:2"}}'; "#;

struct Supervised {
    reports: mpsc::Receiver<ChildReport>,
    goal: watch::Sender<ChildGoal>,
    task: JoinHandle<bool>,
}

impl Supervised {
    fn script(script: &str) -> Self {
        Self::program("/bin/sh", &["-c", script])
    }

    fn program(path: &str, args: &[&str]) -> Self {
        let (reports, receiver) = mpsc::channel(1_024);
        let (goal, orders) = watch::channel(ChildGoal::default());
        let args = args.iter().map(Into::into).collect();
        let program = Program { name: "prices-0".into(), path: path.into(), args, env: vec![], listen: None };
        Self { reports: receiver, goal, task: tokio::spawn(supervise(program, reports, orders)) }
    }

    fn order(&self, order: ChildOrder) {
        self.goal.send_modify(|goal| goal.order = order);
    }

    async fn next(&mut self) -> ChildReport {
        timeout(DEADLINE, self.reports.recv()).await.expect("in time").expect("a report")
    }

    async fn next_event(&mut self) -> Event {
        loop {
            if let ChildReport::Event(event) = self.next().await {
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
    let mut child = Supervised::script(&(ANNOUNCE.to_owned() + "cat"));
    let Event::Started(at) = child.next_event().await else { panic!("not started") };
    assert_eq!((at.ws.port(), at.admin.port(), at.restarts), (1, 2, 0));
    assert!(runs(at.pid));
    child.order(ChildOrder::Stop);
    assert!(!child.killed().await);
    assert!(!runs(at.pid));
}

#[tokio::test]
async fn restarts_a_killed_child() {
    let mut child = Supervised::script(&(ANNOUNCE.to_owned() + "cat"));
    let Event::Started(first) = child.next_event().await else { panic!("not started") };
    let pid = rustix::process::Pid::from_raw(first.pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let Event::Exited { how, pid, .. } = child.next_event().await else { panic!("not exited") };
    assert_eq!((how, pid), (ChildExit { code: None, signal: Some(9) }, first.pid));
    let Event::Restarted(second) = child.next_event().await else { panic!("not restarted") };
    assert_eq!(second.restarts, 1);
    assert_ne!(second.pid, first.pid);
}

#[tokio::test]
async fn reports_the_last_lines_of_a_child_that_never_listens_and_retries() {
    let mut child = Supervised::script("echo no such topic >&2; exit 3");
    let mut tries = 0;
    let log = loop {
        match child.next().await {
            ChildReport::NeverListened { how, log, restart_in_ms, .. } => {
                assert_eq!((&*how, log), ("exit code 3", vec!["no such topic".to_owned()]));
                assert_eq!(restart_in_ms, 100 << tries);
                tries += 1;
            }
            ChildReport::Log { .. } => {}
            ChildReport::Event(Event::CrashLoop { log, .. }) => break log,
            ChildReport::Event(event) => panic!("{event}"),
        }
    };
    assert_eq!((tries, log), (5, vec!["no such topic".to_owned()]));
    child.order(ChildOrder::Stop);
    assert!(!child.killed().await);
}

#[tokio::test]
async fn reports_why_a_program_cannot_be_started() {
    let mut child = Supervised::program("/nowhere/wscluster", &[]);
    let ChildReport::NeverListened { how, .. } = child.next().await else { panic!("started?") };
    assert_eq!(how, "failed to start /nowhere/wscluster: No such file or directory (os error 2)");
    child.order(ChildOrder::Stop);
    assert!(!child.killed().await);
}

#[tokio::test]
async fn reports_a_crash_loop_with_the_last_lines() {
    let mut child = Supervised::script(&(ANNOUNCE.to_owned() + "echo out of slots >&2; exit 1"));
    let mut exits = 0;
    let log = loop {
        match child.next_event().await {
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
    child.order(ChildOrder::Stop);
    assert!(!child.killed().await, "it waited for its restart");
}

#[tokio::test]
async fn kills_a_child_that_does_not_end() {
    let mut child = Supervised::script(&("trap '' TERM; ".to_owned() + ANNOUNCE + "while :; do read line || :; done"));
    let Event::Started(at) = child.next_event().await else { panic!("not started") };
    child.order(ChildOrder::Stop);
    // It ignores SIGTERM, but not SIGKILL.
    child.order(ChildOrder::Kill);
    assert!(child.killed().await);
    assert!(!runs(at.pid));
}

#[tokio::test]
async fn hung_child_is_killed_and_restarted() {
    // It ignores SIGTERM, like a stopped process.
    let mut child = Supervised::script(&("trap '' TERM; ".to_owned() + ANNOUNCE + "while :; do read line || :; done"));
    let Event::Started(first) = child.next_event().await else { panic!("not started") };
    let silent = Duration::from_secs(41);
    child.goal.send_modify(|goal| goal.hung = Some(HungChild { pid: first.pid, silent }));
    let Event::Hung { pid, silent_ms, .. } = child.next_event().await else { panic!("not hung") };
    assert_eq!((pid, silent_ms), (first.pid, 41_000));
    let Event::Exited { how, .. } = child.next_event().await else { panic!("not exited") };
    assert_eq!(how, ChildExit { code: None, signal: Some(9) });
    let Event::Restarted(second) = child.next_event().await else { panic!("not restarted") };
    assert!(runs(second.pid), "the report about the first process does not end the second");
    child.order(ChildOrder::Kill);
    assert!(child.killed().await);
}

#[tokio::test]
async fn child_ends_when_its_fleet_is_dropped() {
    let mut child = Supervised::script(&(ANNOUNCE.to_owned() + "cat; echo alone >&2"));
    let Event::Started(at) = child.next_event().await else { panic!("not started") };
    drop(child.goal);
    assert!(timeout(DEADLINE, child.task).await.unwrap().unwrap());
    assert!(!runs(at.pid));
}

#[tokio::test]
async fn busy_logger_never_blocks_on_its_reader() {
    // 20,000 lines exceed pipe and channel, and nobody reads the channel.
    let folder = tempfile::tempdir().unwrap();
    let done = folder.path().join("done");
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; : >$0; cat";
    let args = ["-c".into(), script.into(), done.clone().into_os_string()].into();
    let (reports, _unread) = mpsc::channel(4);
    let (_goal, orders) = watch::channel(ChildGoal::default());
    let program = Program { name: "prices-0".into(), path: "/bin/sh".into(), args, env: vec![], listen: None };
    let _task = tokio::spawn(supervise(program, reports, orders));
    let written = timeout(DEADLINE, async {
        while !done.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    written.await.expect("it logs without blocking");
}
