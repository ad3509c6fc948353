//! The local ports of connections to shards. Each connection takes one, and for each shard and each source address the
//! kernel has only those of `net.ipv4.ip_local_port_range`. If they are used up, that is a want of this gateway and no
//! fault of the shard.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;
use wscluster_runtime::shortage::Shortage;

mod late_port;

/// How long a shard for which no port was left is not tried again. To find that out, the kernel looks at every port,
/// which takes milliseconds.
const REST: Duration = Duration::from_millis(100);

/// The setting of the kernel.
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What the kernel uses if it cannot be read.
const DEFAULT_RANGE: (u16, u16) = (32_768, 60_999);

/// The local addresses of a gateway, and what is known of their ports.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// Addresses to connect from; empty: the kernel chooses one.
    sources: Vec<IpAddr>,
    next: AtomicUsize,
    /// Shards for which no port was left lately.
    exhausted: Mutex<HashMap<SocketAddr, Instant>>,
    shortage: Shortage,
}

impl Ports {
    /// The ports of connections from `sources`.
    pub(crate) fn new(sources: &[IpAddr]) -> Self {
        Self { sources: sources.to_vec(), ..Self::default() }
    }

    /// Calls `connect` with the source addresses in turn, beginning with another one each time, until one has a port
    /// left for a connection to `shard`.
    pub(crate) fn connect<T>(
        &self,
        shard: SocketAddr,
        connect: impl Fn(Option<IpAddr>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut error = io::Error::from(Errno::ADDRNOTAVAIL);
        if self.is_exhausted(shard) {
            return Err(error);
        }
        let sources: Vec<_> = self.sources_for(shard).collect();
        let start = self.next.fetch_add(1, Relaxed);
        for at in 0..sources.len().max(1) {
            let source = sources.get(start.wrapping_add(at) % sources.len().max(1)).copied();
            match connect(source) {
                Err(shortage) if is_shortage(&shortage) => error = shortage,
                result => return result,
            }
        }
        let mut exhausted = self.exhausted.lock();
        exhausted.retain(|_, since| since.elapsed() < REST);
        exhausted.insert(shard, Instant::now());
        Err(error)
    }

    fn is_exhausted(&self, shard: SocketAddr) -> bool {
        self.exhausted.lock().get(&shard).is_some_and(|since| since.elapsed() < REST)
    }

    fn sources_for(&self, shard: SocketAddr) -> impl Iterator<Item = IpAddr> {
        self.sources.iter().copied().filter(move |source| source.is_ipv4() == shard.is_ipv4())
    }

    /// Records that a client was refused because no port was left; logs that at intervals.
    pub(crate) fn refused(&self) {
        if let Some(suppressed) = self.shortage.refused() {
            tracing::error!(suppressed, "new clients are refused (port_limit): {}", self.message());
        }
    }

    /// The shortage and its remedy, if clients were refused lately.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.shortage.is_recent().then(|| self.message())
    }

    /// A sentence with the limit and the remedy.
    pub(crate) fn message(&self) -> String {
        let (first, last) = range();
        let sources = self.sources.len().max(1);
        let all = sources * (usize::from(last) - usize::from(first) + 1);
        let addresses = if sources == 1 { "one source address" } else { &format!("{sources} source addresses") };
        format!(
            "all {all} local ports for connections to a shard are in use (net.ipv4.ip_local_port_range \
             {first}–{last}, {addresses}): widen the range, add source addresses (--source-address), or run more \
             gateways"
        )
    }
}

/// The ports from which the kernel chooses.
fn range() -> (u16, u16) {
    let parse = |text: String| {
        let mut ports = text.split_whitespace().map(str::parse);
        Some((ports.next()?.ok()?, ports.next()?.ok()?))
    };
    let range = std::fs::read_to_string(RANGE).ok().and_then(parse);
    range.filter(|(first, last)| first <= last).unwrap_or(DEFAULT_RANGE)
}

/// Whether `error` of a connection attempt means that no local port is left.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::ADDRNOTAVAIL, Errno::ADDRINUSE];
    error.raw_os_error().is_some_and(|code| shortages.contains(&Errno::from_raw_os_error(code)))
}

/// Binds `socket` to `source`. The kernel chooses the port when the socket connects, so that connections to different
/// shards may have the same one (`IP_BIND_ADDRESS_NO_PORT`).
pub(crate) fn bind(socket: &impl AsFd, source: IpAddr) -> io::Result<()> {
    late_port::choose_at_connect(socket)?;
    Ok(rustix::net::bind(socket, &SocketAddr::new(source, 0))?)
}

/// Whether this machine has the address `source`.
pub(crate) fn check(source: IpAddr) -> io::Result<()> {
    let family = socket2::Domain::for_address(SocketAddr::new(source, 0));
    bind(&socket2::Socket::new(family, socket2::Type::STREAM, None)?, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7_000);

    fn ports(sources: &[&str]) -> Ports {
        Ports::new(&sources.iter().map(|source| source.parse().unwrap()).collect::<Vec<_>>())
    }

    /// An attempt that finds no port at the source addresses that end like one of `short`.
    fn attempt(short: &'static [&str]) -> impl Fn(Option<IpAddr>) -> io::Result<Option<IpAddr>> {
        move |source| {
            let text = source.map(|source| source.to_string()).unwrap_or_default();
            if short.iter().any(|end| text.ends_with(end)) { Err(Errno::ADDRNOTAVAIL.into()) } else { Ok(source) }
        }
    }

    #[test]
    fn takes_source_addresses_of_the_shards_family_in_turn() {
        let ports = ports(&["127.0.0.1", "::1", "127.0.0.2"]);
        let mut taken: Vec<_> = (0..4).map(|_| ports.connect(SHARD, attempt(&[])).unwrap().unwrap()).collect();
        taken.sort();
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(taken, [of("127.0.0.1"), of("127.0.0.1"), of("127.0.0.2"), of("127.0.0.2")]);
        assert_eq!(Ports::default().connect(SHARD, attempt(&[])).unwrap(), None);
    }

    #[test]
    fn takes_another_source_address_when_one_has_no_port_left() {
        let ports = ports(&["127.0.0.1", "127.0.0.2"]);
        for _ in 0..3 {
            let taken = ports.connect(SHARD, attempt(&[".1"])).unwrap().unwrap();
            assert_eq!(taken.to_string(), "127.0.0.2");
        }
        assert!(is_shortage(&ports.connect(SHARD, attempt(&[".1", ".2"])).unwrap_err()));
    }

    #[test]
    fn does_not_search_all_ports_again_at_once() {
        let ports = Ports::default();
        let searches = AtomicUsize::new(0);
        let search = |_| {
            searches.fetch_add(1, Relaxed);
            io::Result::<()>::Err(Errno::ADDRNOTAVAIL.into())
        };
        for _ in 0..3 {
            assert!(is_shortage(&ports.connect(SHARD, search).unwrap_err()));
        }
        assert_eq!(searches.load(Relaxed), 1);
        let other = SocketAddr::new(SHARD.ip(), 7_001);
        assert!(ports.connect(other, attempt(&[])).is_ok(), "ports are counted for each shard");
    }

    #[test]
    fn other_errors_are_no_shortage() {
        let ports = ports(&["127.0.0.1", "127.0.0.2"]);
        let calls = AtomicUsize::new(0);
        let refused = |_| {
            calls.fetch_add(1, Relaxed);
            io::Result::<()>::Err(Errno::CONNREFUSED.into())
        };
        assert!(!is_shortage(&ports.connect(SHARD, refused).unwrap_err()));
        assert_eq!((calls.load(Relaxed), ports.is_exhausted(SHARD)), (1, false));
    }

    #[test]
    fn names_the_number_of_ports_after_a_refusal() {
        let ports = ports(&["127.0.0.1", "127.0.0.2"]);
        assert_eq!(ports.trouble(), None);
        ports.refused();
        let (first, last) = range();
        let all = 2 * (usize::from(last) - usize::from(first) + 1);
        let trouble = ports.trouble().unwrap();
        assert!(trouble.contains(&format!("all {all} local ports")) && trouble.contains("2 source"), "{trouble}");
    }

    #[test]
    fn connections_to_different_shards_may_have_the_same_port() {
        let source = SHARD.ip();
        let port = |_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            bind(&socket, source).unwrap();
            (socket.local_addr().unwrap().as_socket().unwrap(), socket)
        };
        let bound: Vec<_> = (0..3).map(port).collect();
        assert!(bound.iter().all(|(addr, _)| *addr == SocketAddr::new(source, 0)), "{bound:?}");
    }

    #[test]
    fn only_addresses_of_this_machine_can_be_sources() {
        check("127.0.0.2".parse().unwrap()).unwrap();
        let foreign = check("192.0.2.1".parse().unwrap()).unwrap_err();
        assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
