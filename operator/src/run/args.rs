//! The flags of `wscluster-operator run`, each with an environment variable.

use std::net::SocketAddr;

use wscluster_api::units::{Span, UnitError};

use crate::settings::Settings;
use crate::telemetry::LogArgs;

/// The flags of `wscluster-operator run`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// Address of the admin port: `/livez`, `/readyz` and `/metrics`.
    #[arg(long, env = "WSCLUSTER_ADMIN", value_name = "HOST:PORT", default_value = "[::]:9090")]
    pub(crate) admin: SocketAddr,
    /// Name of this process in the Lease and in Events [default: the host name].
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Name of the Lease for leader election, in the namespace of the operator.
    #[arg(long, env = "WSCLUSTER_LEASE", value_name = "NAME", default_value = "wscluster-operator")]
    pub(crate) lease: String,
    /// Time after which a standby takes over from an operator that no longer renews the Lease: 3s to 10m.
    #[arg(long, env = "WSCLUSTER_LEASE_DURATION", value_name = "DURATION", default_value = "15s",
          value_parser = |text: &str| between(text, Span::secs(3), Span::secs(600)))]
    pub(crate) lease_duration: Span,
    /// Interval of health requests to each shard, shorter while it starts or drains: 100ms to 1m.
    #[arg(long, env = "WSCLUSTER_HEALTH_INTERVAL", value_name = "DURATION", default_value = "5s",
          value_parser = |text: &str| between(text, Span::millis(100), Span::secs(60)))]
    pub(crate) health_interval: Span,
}

fn between(text: &str, least: Span, most: Span) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: UnitError| error.to_string())?;
    if (least.0..=most.0).contains(&span.0) { Ok(span) } else { Err(format!("give {least} to {most}")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Args,
    }

    #[test]
    fn refuses_a_lease_duration_out_of_range() {
        let parse = |duration: &str| Line::try_parse_from(["run", "--lease-duration", duration]).map(|line| line.run);
        assert_eq!(parse("30s").unwrap().lease_duration, Span::secs(30));
        let error = parse("1s").unwrap_err().to_string();
        assert!(error.contains("give 3s to 10m"), "{error}");
    }

    #[test]
    fn watches_all_namespaces_by_default() {
        let parse = |line: &[&str]| Line::try_parse_from(line).unwrap().run.settings.namespaces;
        assert!(parse(&["run"]).is_empty());
        assert_eq!(parse(&["run", "--namespace", "a,b", "--namespace", "c"]), ["a", "b", "c"]);
    }
}
