//! Ports that stay reserved for this run while children restart.
//!
//! A bound socket that does not listen reserves a port: the kernel does not pick it as the source port of a
//! connection, and `bind` of another program fails. Children can bind it as well, because both sides set
//! `SO_REUSEADDR` and `SO_REUSEPORT` and only the child listens (Linux).

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use wscluster_runtime::sockets::{self, ListenError};

/// A port reserved for children.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    addr: SocketAddr,
    _socket: Socket,
}

impl ReservedPort {
    /// Reserves `addr`; port 0 picks a free one.
    pub(crate) fn take(addr: SocketAddr) -> Result<Self, ListenError> {
        sockets::ensure_free(addr)?;
        let bind = || {
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&addr.into())?;
            let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Self { addr: bound, _socket: socket })
        };
        bind().map_err(|source| ListenError { addr, source })
    }

    /// The address with the actual port.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use wscluster_runtime::sockets::Share;

    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn child_listens_on_a_reserved_port_again_and_again() {
        let reserved = ReservedPort::take(any()).unwrap();
        for share in [Share::Exclusive, Share::ReusePort, Share::Exclusive] {
            let listener = sockets::listen(reserved.addr(), share).unwrap();
            TcpStream::connect(reserved.addr()).unwrap();
            drop(listener);
            let refused = TcpStream::connect(reserved.addr()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "only the child listens");
        }
    }

    #[test]
    fn several_gateways_listen_on_one_reserved_port() {
        let reserved = ReservedPort::take(any()).unwrap();
        let both = [(); 2].map(|()| sockets::listen(reserved.addr(), Share::ReusePort).unwrap());
        assert_eq!(both.map(|l| l.local_addr().unwrap()), [reserved.addr(); 2]);
    }

    #[test]
    fn gateway_detects_whether_it_shares_its_port() {
        let reserved = ReservedPort::take(any()).unwrap();
        assert!(!sockets::is_shared(reserved.addr()), "a socket that does not listen gets no clients");
        let other = sockets::listen(reserved.addr(), Share::ReusePort).unwrap();
        assert!(sockets::is_shared(reserved.addr()));
        drop(other);
        assert!(!sockets::is_shared(reserved.addr()));
    }

    #[test]
    fn another_program_cannot_take_a_reserved_port() {
        let reserved = ReservedPort::take(any()).unwrap();
        let stranger = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let error = stranger.bind(&reserved.addr().into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn refuses_a_port_where_another_run_listens() {
        let other = sockets::listen(any(), Share::ReusePort).unwrap();
        let error = ReservedPort::take(other.local_addr().unwrap()).unwrap_err();
        assert!(error.to_string().contains("another process holds the port"), "{error}");
    }

    #[test]
    fn rejects_an_address_of_another_machine() {
        let error = ReservedPort::take("192.0.2.1:0".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1:0") && error.contains("no interface of this machine"), "{error}");
    }

    #[test]
    fn picks_different_free_ports() {
        let (a, b) = (ReservedPort::take(any()).unwrap(), ReservedPort::take(any()).unwrap());
        assert_ne!(a.addr(), b.addr());
        assert!(TcpListener::bind(a.addr()).is_ok(), "std sets SO_REUSEADDR, like our children");
    }
}
