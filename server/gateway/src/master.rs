//! `--master`: a parent process that only keeps the listening sockets for the gateway, its child
//! ([`wscluster_runtime::socket_activation`]).

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::{Child, ChildStdin, Command};
use wscluster_runtime::process::signal_child;
use wscluster_runtime::restarts::{Restarts, STEADY};
use wscluster_runtime::shutdown::{StopReason, stop_requested};
use wscluster_runtime::socket_activation::Passed;

/// Time for a child to end after the second signal; then it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs this program without `--master` as a child, and restarts it when it crashes. Returns the exit code of the
/// last child.
pub(crate) fn run(listeners: Vec<TcpListener>, watch_parent: bool) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let passed = Passed::new(&listeners)?;
    drop(listeners);
    runtime.block_on(async {
        let mut stop = std::pin::pin!(stop_requested(watch_parent));
        let mut restarts = Restarts::default();
        loop {
            let began = Instant::now();
            let (mut child, lifeline) = start(&passed)?;
            let status = tokio::select! {
                status = child.wait() => status?,
                reason = &mut stop => {
                    // Otherwise the kernel would go on queueing connections that the child no longer accepts.
                    drop(passed);
                    return end(child, lifeline, reason?).await;
                }
            };
            // A gateway that cannot start logs the reason and exits. A restart would do the same.
            let failed = status.signal().is_some() || (!status.success() && began.elapsed() >= STEADY);
            let restart = restarts.exited(began.elapsed());
            if !failed || restart.crash_loop.is_some() {
                return Ok(code(status));
            }
            let after_ms = restart.after.as_millis() as u64;
            tracing::error!(%status, after_ms, "the gateway crashed; restarting it on the same sockets");
            tokio::select! {
                () = tokio::time::sleep(restart.after) => {}
                reason = &mut stop => {
                    reason?;
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    })
}

/// Starts the child. The pipe is its standard input, whose end makes it notice that this process is gone.
fn start(passed: &Passed) -> io::Result<(Child, Option<ChildStdin>)> {
    let args: Vec<OsString> = std::env::args_os().skip(1).filter(|arg| arg != "--master").collect();
    let parent = "--exit-with-parent";
    let more = (!args.iter().any(|arg| arg == parent)).then_some(parent);
    let mut child = Command::new(std::env::current_exe()?)
        .args(args)
        .args(more)
        .envs(passed.env())
        .env_remove("LISTEN_PID")
        .stdin(Stdio::piped())
        .spawn()?;
    let lifeline = child.stdin.take();
    Ok((child, lifeline))
}

/// Passes a first and a second signal on to the child. Kills a child that does not end after the second one.
async fn end(mut child: Child, mut lifeline: Option<ChildStdin>, reason: StopReason) -> io::Result<ExitCode> {
    forward(&child, &mut lifeline, reason)?;
    let again = tokio::select! {
        status = child.wait() => return status.map(code),
        again = stop_requested(false) => again?,
    };
    forward(&child, &mut lifeline, again)?;
    if let Ok(status) = tokio::time::timeout(PATIENCE, child.wait()).await {
        return status.map(code);
    }
    child.start_kill()?;
    child.wait().await.map(code)
}

fn forward(child: &Child, lifeline: &mut Option<ChildStdin>, reason: StopReason) -> io::Result<()> {
    match reason {
        StopReason::Signal | StopReason::Failure => signal_child(child, Signal::TERM),
        StopReason::ParentGone => {
            *lifeline = None;
            Ok(())
        }
    }
}

/// The exit code as a shell reports it: 128 plus the signal for a child that was killed.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(1))
}
