//! The listening sockets of a gateway, kept open by this process while the gateway restarts: clients that connect
//! meanwhile wait in the backlog for the next process.

use std::net::TcpListener;

use wscluster_runtime::child_process::Listen;
use wscluster_runtime::sockets::{self, ListenError, Share};

/// The sockets of one child.
#[derive(Debug, Default)]
pub(crate) struct ListenSockets(Vec<TcpListener>);

impl ListenSockets {
    /// The sockets for the next process. A new socket gets no clients before the child listens on it.
    pub(crate) fn sockets(&mut self, listen: Option<Listen>) -> Result<&[TcpListener], ListenError> {
        if let (Some(listen), true) = (listen, self.0.is_empty()) {
            let sockets = (0..listen.sockets).map(|_| sockets::bind(listen.addr, Share::ReusePort));
            self.0 = sockets.collect::<Result<_, _>>()?;
        }
        Ok(&self.0)
    }

    /// Whether clients that connect now wait for the next process.
    pub(crate) fn listen(&self) -> bool {
        self.0.iter().all(sockets::listens)
    }

    /// Closes the sockets, so that other gateways at the same address get all clients.
    pub(crate) fn close(&mut self) {
        self.0.clear();
    }
}
