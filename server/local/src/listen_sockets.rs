//! The sockets on which a gateway listens, held for it through its lives: while it is dead, clients that connect wait in the
//! backlog for the next one.

use std::net::TcpListener;

use wscluster_runtime::child_process::Listen;
use wscluster_runtime::sockets::{self, ListenError, Share};

/// The sockets of one child.
#[derive(Debug, Default)]
pub struct Held(Vec<TcpListener>);

impl Held {
    /// Those for the next life. New ones get no client before the child listens on them.
    pub fn sockets(&mut self, listen: Option<Listen>) -> Result<&[TcpListener], ListenError> {
        if let (Some(listen), true) = (listen, self.0.is_empty()) {
            let sockets = (0..listen.sockets).map(|_| sockets::bind(listen.addr, Share::ReusePort));
            self.0 = sockets.collect::<Result<_, _>>()?;
        }
        Ok(&self.0)
    }

    /// Whether somebody who connects now may wait for the next life.
    pub fn listen(&self) -> bool {
        self.0.iter().all(sockets::listens)
    }

    /// Nobody is to wait for the next life: others at the same address serve.
    pub fn let_go(&mut self) {
        self.0.clear();
    }
}
