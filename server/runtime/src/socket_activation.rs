//! Listening sockets that a parent keeps for a child process, as nginx and HAProxy do. If a gateway crashes, the next
//! one gets the same sockets, and clients that connect meanwhile wait in the backlog instead of being refused.
//!
//! They are passed as systemd passes them (`LISTEN_FDS`, `sd_listen_fds(3)`), so a gateway can be a socket-activated
//! unit too.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::sockets;

/// First descriptor tried for a consecutive range: above what most processes have open.
const FIRST: RawFd = 32;

/// The sockets that the parent has passed to this process, usually none. They listen from now on, for clients with
/// this `delivery.pongTimeout`.
pub fn inherited(pong_timeout: Duration) -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let listeners = (0..passed.len()).filter_map(|index| passed.take_tcp_listener(index).transpose());
    let listening = |listener| sockets::listen_on(&listener, pong_timeout).map(|()| listener);
    listeners.map(|listener| listener.and_then(listening)).collect()
}

/// Consecutive descriptors that every child inherits while this value lives.
#[derive(Debug)]
pub struct Passed(Vec<OwnedFd>);

impl Passed {
    /// Duplicates `sockets` for children.
    pub fn new(sockets: &[TcpListener]) -> io::Result<Self> {
        let mut first = FIRST;
        'row: loop {
            let mut row = Vec::new();
            for (socket, wanted) in sockets.iter().zip(first..) {
                let copy = fcntl_dupfd_cloexec(socket, wanted).map_err(|error| match error {
                    // The kernel reports a number above the limit as EINVAL.
                    Errno::INVAL => Errno::MFILE,
                    other => other,
                })?;
                if copy.as_raw_fd() != wanted {
                    first = copy.as_raw_fd();
                    continue 'row;
                }
                row.push(copy);
            }
            row.iter().try_for_each(|copy| fcntl_setfd(copy, FdFlags::empty()))?;
            return Ok(Self(row));
        }
    }

    /// Environment variables for the child; `LISTEN_PID` must not be set.
    pub fn env(&self) -> [(&'static str, String); 2] {
        let first = self.0.first().map_or(FIRST, AsRawFd::as_raw_fd);
        [("LISTEN_FDS", self.0.len().to_string()), ("LISTEN_FDS_FIRST_FD", first.to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::Share;

    #[test]
    fn descriptors_are_consecutive_whatever_is_open() {
        let any = "127.0.0.1:0".parse().unwrap();
        let sockets = [(); 3].map(|()| sockets::bind(any, Share::ReusePort).unwrap());
        // Every second descriptor is taken.
        let taken = Passed::new(&[(); 8].map(|()| sockets[0].try_clone().unwrap())).unwrap();
        let taken: Vec<_> = taken.0.into_iter().step_by(2).collect();
        let passed = Passed::new(&sockets).unwrap();
        let first = passed.0[0].as_raw_fd();
        assert_eq!(passed.0.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), [first, first + 1, first + 2]);
        assert_eq!(passed.env().map(|(_, value)| value), ["3".to_owned(), first.to_string()]);
        drop(taken);
    }

    #[test]
    fn passes_nothing_without_sockets() {
        assert_eq!(Passed::new(&[]).unwrap().env()[0].1, "0");
    }
}
