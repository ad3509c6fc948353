//! Source addresses of clients. An address has about 28,000 ports per target, so more clients need more addresses. On
//! loopback, all of 127.0.0.0/8 is available.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Clients per source address and target. Fewer than the 28,232 ports of Linux's default range, because other programs
/// and closing connections use ports as well.
const CLIENTS_PER_SOURCE: u32 = 12_000;

/// The addresses to bind to for `clients` clients of `target`; empty if the kernel should choose.
pub(super) fn choose(given: &[IpAddr], clients: u32, target: IpAddr) -> Vec<IpAddr> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let need = clients.div_ceil(CLIENTS_PER_SOURCE);
    match target {
        IpAddr::V4(v4) if v4.is_loopback() && need > 1 => {
            (0..need.min(250)).map(|i| Ipv4Addr::new(127, 0, 0, 2 + i as u8).into()).collect()
        }
        _ => Vec::new(),
    }
}

/// A non-blocking socket, bound to `source`, that is connecting to `target`.
///
/// `receive_buffer` is for clients that read slowly: unread data must accumulate at the server, not in this kernel.
pub(super) fn dial(target: SocketAddr, source: Option<IpAddr>, receive_buffer: Option<usize>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Ok(socket),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_more_loopback_addresses_for_more_clients() {
        let target = IpAddr::from([127, 0, 0, 1]);
        assert!(choose(&[], 12_000, target).is_empty());
        assert_eq!(choose(&[], 12_001, target), [IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 3])]);
        assert!(choose(&[], 100_000, IpAddr::from([192, 0, 2, 1])).is_empty());
        assert_eq!(choose(&[target], 100_000, target), [target]);
    }

    #[test]
    fn connects_from_the_address_it_is_given() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let source = IpAddr::from([127, 0, 0, 77]);
        let socket = dial(listener.local_addr().unwrap(), Some(source), None).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), source);
        drop(socket);
    }
}
