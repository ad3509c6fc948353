//! What the operator is told once, for all clusters: flags, each with an environment variable.
//!
//! What one cluster looks like stands in its manifest; nothing here overrides it.

use std::net::IpAddr;

use clap::Args;
use wscluster_api::units::Span;

/// Settings of the operator.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Image of shards and gateways whose template names none.
    #[arg(long, env = "WSCLUSTER_IMAGE", value_name = "IMAGE", default_value = concat!("wscluster:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// When to pull it, where the template does not say. Default: as Kubernetes decides from its tag.
    #[arg(long, env = "WSCLUSTER_IMAGE_PULL_POLICY", value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,
    /// Namespaces whose clusters it looks after. Default: all.
    #[arg(long = "namespace", env = "WSCLUSTER_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Namespace the operator itself runs in: it may reach the admin ports, and keeps its Lease there.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "wscluster-system")]
    pub own_namespace: String,
    /// Further namespaces that may reach the admin ports, such as that of Prometheus. `*`: all.
    #[arg(
        long = "metrics-namespace",
        env = "WSCLUSTER_METRICS_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub metrics_namespaces: Vec<String>,
    /// Address ranges from which load balancers check the health of gateways, such as 35.191.0.0/16.
    #[arg(
        long = "health-check-range",
        env = "WSCLUSTER_HEALTH_CHECK_RANGES",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = cidr
    )]
    pub health_check_ranges: Vec<String>,
    /// Time that load balancers need to notice a gateway that turned not ready.
    #[arg(long, env = "WSCLUSTER_DRAIN_LAG", value_name = "DURATION", default_value = "15s")]
    pub drain_lag: Span,
}

/// An address range, as it was written.
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
    fn takes_address_ranges_and_nothing_else() {
        for good in ["35.191.0.0/16", "0.0.0.0/0", "2600:2d00:1:b029::/64", "10.1.2.3/32"] {
            assert_eq!(cidr(good).as_deref(), Ok(good));
        }
        for bad in ["", "35.191.0.0", "35.191.0.0/33", "35.191.0/16", "gke/16", "35.191.0.0/-1", "35.191.0.0/16/2"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }
}
