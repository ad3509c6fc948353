//! Parent and child processes: the line that announces a child's addresses, signals to children, debuggers.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

/// Prints the line in which a child process announces its addresses to its parent:
/// `{"listening":{"ws":"host:port","admin":"host:port"}}`.
pub fn announce_listening(ws: SocketAddr, admin: SocketAddr) {
    let line = serde_json::json!({ "listening": { "ws": ws.to_string(), "admin": admin.to_string() } });
    // A parent that does not read is no reason to end.
    let _ = writeln!(io::stdout(), "{line}");
}

/// Sends `signal` to a child if it still runs.
pub fn signal_child(child: &Child, signal: Signal) -> io::Result<()> {
    // The id is none once the child was waited for; until then the kernel cannot reuse the pid.
    match child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        Some(pid) => Ok(kill_process(pid, signal)?),
        None => Ok(()),
    }
}

/// Number of event loops unless configured: one per CPU.
pub fn default_workers() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32)
}

/// Whether a debugger is attached to process `pid`.
pub fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_no_debugger_where_there_is_none() {
        assert!(!is_traced(0), "no such process");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!is_traced(child.id()));
        child.kill().and_then(|()| child.wait()).unwrap();
    }
}
