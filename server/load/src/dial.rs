//! Connects and upgrades one client, with the time of each step. The handshake itself is
//! [`wscluster_client::handshake`]; this file adds source addresses and receive buffers.

use std::io;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::time::timeout;
use wscluster_client::handshake::{Request, upgrade};

use super::failure::{Failure, Phase};
use super::source;
use super::worker_plan::WorkerPlan;

/// Receive buffer of slow clients, so that unread messages accumulate at the server.
const SLOW_RECEIVE_BUFFER: usize = 4_096;

/// An upgraded connection.
#[derive(Debug)]
pub(super) struct Opened {
    /// The socket.
    pub(super) stream: TcpStream,
    /// Bytes received after the 101.
    pub(super) rest: Vec<u8>,
    /// When the 101 was complete.
    pub(super) at: Instant,
}

/// The steps that a handshake has completed, even if it failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// The TCP connection was established.
    pub(super) connected: Option<Instant>,
    /// The first byte of the answer arrived.
    pub(super) first_byte: Option<Instant>,
}

/// Connects client `k` and upgrades it.
pub(super) async fn dial(plan: &WorkerPlan, k: u32, times: &mut Times) -> Result<Opened, Failure> {
    let target = &plan.targets[k as usize % plan.targets.len()];
    // Neighbours differ in target; the clients of one target use the source addresses in turn.
    let turn = k as usize / plan.targets.len();
    let source = plan.sources.get(turn % plan.sources.len().max(1)).copied();
    let in_connect = |error: &io::Error| Failure::of_io(error, Phase::Connect);
    let buffer = plan.is_slow(k).then_some(SLOW_RECEIVE_BUFFER);
    let socket = source::dial(target.addr, source, buffer).map_err(|e| in_connect(&e))?;
    let stream = TcpStream::from_std(socket.into()).map_err(|e| in_connect(&e))?;
    timeout(plan.timeout, stream.writable())
        .await
        .map_err(|_| Failure::Timeout(Phase::Connect))?
        .map_err(|e| in_connect(&e))?;
    if let Some(error) = stream.take_error().map_err(|e| in_connect(&e))? {
        return Err(in_connect(&error));
    }
    times.connected = Some(Instant::now());

    let request = Request::new(&target.endpoint, &plan.headers);
    let upgraded = upgrade(&stream, &request, plan.timeout, &mut times.first_byte).await?;
    Ok(Opened { stream, rest: upgraded.rest, at: upgraded.at })
}
