//! Settings of the operator that apply to all clusters: flags, each with an environment variable. They never override
//! the manifest of a cluster.

use std::net::IpAddr;

use clap::Args;
use wscluster_api::units::Span;

/// Settings that apply to all clusters.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// Image of shards and gateways whose template sets none.
    #[arg(long, env = "WSCLUSTER_IMAGE", value_name = "IMAGE", default_value = concat!("wscluster:", env!("CARGO_PKG_VERSION")))]
    pub(crate) image: String,
    /// Image pull policy, unless the template sets one [default: Kubernetes decides by the tag].
    #[arg(long, env = "WSCLUSTER_IMAGE_PULL_POLICY", value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub(crate) image_pull_policy: Option<String>,
    /// Namespaces to manage clusters in, separated by commas [default: all].
    #[arg(long = "namespace", env = "WSCLUSTER_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub(crate) namespaces: Vec<String>,
    /// Namespace of the operator. It contains the Lease, and its pods may connect to the admin ports.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "wscluster-system")]
    pub(crate) own_namespace: String,
    /// Other namespaces whose pods may connect to the admin ports, such as that of Prometheus; `*` for all.
    #[arg(
        long = "metrics-namespace",
        env = "WSCLUSTER_METRICS_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub(crate) metrics_namespaces: Vec<String>,
    /// Source address ranges of load balancer health checks, such as 35.191.0.0/16.
    #[arg(
        long = "health-check-range",
        env = "WSCLUSTER_HEALTH_CHECK_RANGES",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = cidr
    )]
    pub(crate) health_check_ranges: Vec<String>,
    /// How long load balancers need to stop using a gateway that is no longer ready.
    #[arg(long, env = "WSCLUSTER_DRAIN_LAG", value_name = "DURATION", default_value = "15s")]
    pub(crate) drain_lag: Span,
}

/// Validates an address range.
fn cidr(text: &str) -> Result<String, String> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let longest = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => 0,
    };
    let good = length.parse::<u8>().is_ok_and(|length| length <= longest) && longest > 0;
    if good { Ok(text.to_owned()) } else { Err("write an address and a length, such as 35.191.0.0/16".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::cidr;

    #[test]
    fn accepts_only_address_ranges() {
        for good in ["35.191.0.0/16", "0.0.0.0/0", "2600:2d00:1:b029::/64", "10.1.2.3/32"] {
            assert_eq!(cidr(good).as_deref(), Ok(good));
        }
        for bad in ["", "35.191.0.0", "35.191.0.0/33", "35.191.0/16", "gke/16", "35.191.0.0/-1", "35.191.0.0/16/2"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }
}
