//! Merges the endpoint slices of one Service. Pure.
//!
//! Kubernetes spreads the endpoints of a Service over any number of slices, one address family each, and moves
//! endpoints between them; an endpoint may be listed twice for a while (KEP-752). The result maps the name of each
//! endpoint to all its places.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// Names of the ports that a shard must have.
pub(crate) const PORTS: [&str; 2] = ["ws", "admin"];

/// Addresses of an endpoint. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Its pod terminates; a new pod of the same name may run already.
    pub(crate) terminating: bool,
    /// WebSocket port. IPv4 comes before IPv6.
    pub(crate) ws: SocketAddr,
    /// Admin port.
    pub(crate) admin: SocketAddr,
}

/// The endpoints of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// By name.
    pub(crate) places: BTreeMap<String, BTreeSet<Place>>,
    /// Unusable endpoints: their slice lacks a port of [`PORTS`], or they have no IP address.
    pub(crate) unusable: usize,
}

impl Listing {
    /// Merges `slices`, in any order.
    pub(crate) fn read<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Self {
        let mut listing = Self::default();
        for slice in slices {
            let ports = PORTS.map(|name| port(slice, name));
            for endpoint in &slice.endpoints {
                match (ports, address(endpoint)) {
                    ([Some(ws), Some(admin)], Some(address)) => listing.add(endpoint, address, ws, admin),
                    _ => listing.unusable += 1,
                }
            }
        }
        listing
    }

    fn add(&mut self, endpoint: &Endpoint, address: IpAddr, ws: u16, admin: u16) {
        let terminating = endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating);
        let place = Place {
            terminating: terminating.unwrap_or(false),
            ws: SocketAddr::new(address, ws),
            admin: SocketAddr::new(address, admin),
        };
        self.places.entry(name(endpoint, address)).or_default().insert(place);
    }
}

/// The name of the pod, if there is one. Slices written by hand may have only addresses.
fn name(endpoint: &Endpoint, address: IpAddr) -> String {
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.clone());
    let name = pod.or_else(|| endpoint.hostname.clone()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| address.to_string())
}

/// The first address; further ones have no meaning (API reference of `EndpointSlice`).
fn address(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first()?.parse().ok()
}

fn port(slice: &EndpointSlice, name: &str) -> Option<u16> {
    let named = slice.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name))?;
    let is_tcp = named.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    named.port.filter(|_| is_tcp).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A slice of this family with the usual ports.
    pub(in super::super) fn slice(name: &str, family: &str, endpoints: &[Value]) -> EndpointSlice {
        let ports = json!([{ "name": "admin", "port": 9090 }, { "name": "ws", "port": 8080, "protocol": "TCP" }]);
        with_ports(name, family, endpoints, &ports)
    }

    fn with_ports(name: &str, family: &str, endpoints: &[Value], ports: &Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "prices-shards" } },
            "endpoints": endpoints, "ports": ports,
        }))
        .unwrap()
    }

    pub(in super::super) fn pod(name: &str, address: &str) -> Value {
        json!({ "addresses": [address], "conditions": { "ready": true },
                "targetRef": { "kind": "Pod", "name": name } })
    }

    fn places(listing: &Listing) -> Vec<String> {
        let all = listing.places.iter().flat_map(|(name, places)| places.iter().map(move |place| (name, place)));
        all.map(|(name, place)| format!("{name}={},{}", place.ws, place.admin)).collect()
    }

    #[test]
    fn merges_slices_families_and_repeats() {
        let slices = [
            slice("a", "IPv4", &[pod("prices-0", "10.0.0.1"), pod("prices-1", "10.0.0.2")]),
            slice("b", "IPv4", &[pod("prices-1", "10.0.0.2"), pod("prices-2", "10.0.0.3")]),
            slice("c", "IPv6", &[pod("prices-0", "fd00::1")]),
        ];
        let listing = Listing::read(&slices);
        assert_eq!(
            places(&listing),
            [
                "prices-0=10.0.0.1:8080,10.0.0.1:9090",
                "prices-0=[fd00::1]:8080,[fd00::1]:9090",
                "prices-1=10.0.0.2:8080,10.0.0.2:9090",
                "prices-2=10.0.0.3:8080,10.0.0.3:9090",
            ]
        );
        assert_eq!(listing, Listing::read(slices.iter().rev()));
    }

    #[test]
    fn names_an_endpoint_by_its_pod_then_its_host_name_then_its_address() {
        let slices = [slice(
            "a",
            "IPv4",
            &[
                json!({ "addresses": ["10.0.0.1"], "hostname": "h", "targetRef": { "kind": "Pod", "name": "prices-0" } }),
                json!({ "addresses": ["10.0.0.2", "10.0.0.9"], "hostname": "outside" }),
                json!({ "addresses": ["10.0.0.3"] }),
            ],
        )];
        let listing = Listing::read(&slices);
        assert_eq!(listing.places.keys().collect::<Vec<_>>(), ["10.0.0.3", "outside", "prices-0"]);
        assert_eq!(listing.places["outside"].len(), 1);
    }

    #[test]
    fn reads_the_ports_of_each_slice_and_counts_unusable_endpoints() {
        let pod = |n: u8| [pod(&format!("prices-{n}"), &format!("10.0.0.{n}"))];
        let other = json!([{ "name": "ws", "port": 81 }, { "name": "admin", "port": 91 }, { "name": "x", "port": 1 }]);
        let unnamed = json!([{ "port": 8080 }, { "name": "admin", "port": 9090 }]);
        let any = json!([{ "name": "ws" }, { "name": "admin", "port": 9090 }]);
        let udp = json!([{ "name": "ws", "port": 8080, "protocol": "UDP" }, { "name": "admin", "port": 9090 }]);
        let mut slices = vec![with_ports("a", "IPv4", &pod(1), &other)];
        for (at, ports) in [unnamed, any, udp, json!([]), Value::Null].iter().enumerate() {
            slices.push(with_ports(&format!("b{at}"), "IPv4", &pod(2), ports));
        }
        let by_name = [json!({ "addresses": ["prices.example.com"], "hostname": "h" })];
        slices.push(slice("c", "FQDN", &by_name));
        let listing = Listing::read(&slices);
        assert_eq!(places(&listing), ["prices-1=10.0.0.1:81,10.0.0.1:91"]);
        assert_eq!(listing.unusable, 6);
    }

    #[test]
    fn lists_endpoints_that_are_not_ready_and_terminating_ones_last() {
        let old = json!({ "addresses": ["10.0.0.1"], "conditions": { "ready": false, "terminating": true },
            "targetRef": { "name": "prices-0" } });
        let new = json!({ "addresses": ["10.0.0.7"], "conditions": { "ready": false },
            "targetRef": { "name": "prices-0" } });
        let listing = Listing::read(&[slice("a", "IPv4", &[old, new])]);
        assert_eq!(places(&listing), ["prices-0=10.0.0.7:8080,10.0.0.7:9090", "prices-0=10.0.0.1:8080,10.0.0.1:9090"]);
    }
}
