//! A parent process that only keeps the listening sockets ([`wscluster_runtime::socket_activation`]) for the gateway, its child.

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

/// Time to end at once in.
const DEAF: Duration = Duration::from_secs(2);

/// Runs this program again without `--master`, as long as it does not end by itself; its exit code is ours.
pub fn run(listeners: Vec<TcpListener>, watch_parent: bool) -> io::Result<ExitCode> {
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
                    // Or the kernel would go on to accept for a child that does not any more.
                    drop(passed);
                    return end(child, lifeline, reason?).await;
                }
            };
            // What cannot start says why and ends by itself; it would do so again.
            let failed = status.signal().is_some() || (!status.success() && began.elapsed() >= STEADY);
            let restart = restarts.exited(began.elapsed());
            if !failed || restart.crash_loop.is_some() {
                return Ok(code(status));
            }
            let after_ms = restart.after.as_millis() as u64;
            tracing::error!(%status, after_ms, "the gateway died; it starts again on the same sockets");
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

/// The child, and the pipe by whose end it notices that this process is gone.
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

/// Passes on what this process was told, once and once more, until the child has ended. A child that does not end at once
/// when told so twice hears nothing any more, and is killed.
async fn end(mut child: Child, mut lifeline: Option<ChildStdin>, reason: StopReason) -> io::Result<ExitCode> {
    tell(&child, &mut lifeline, reason)?;
    let again = tokio::select! {
        status = child.wait() => return status.map(code),
        again = stop_requested(false) => again?,
    };
    tell(&child, &mut lifeline, again)?;
    if let Ok(status) = tokio::time::timeout(DEAF, child.wait()).await {
        return status.map(code);
    }
    child.start_kill()?;
    child.wait().await.map(code)
}

fn tell(child: &Child, lifeline: &mut Option<ChildStdin>, reason: StopReason) -> io::Result<()> {
    match reason {
        StopReason::Signal | StopReason::Failure => signal_child(child, Signal::TERM),
        StopReason::ParentGone => {
            *lifeline = None;
            Ok(())
        }
    }
}

/// As a shell says it: 128 and the signal for a child that was killed.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(1))
}
