//! Who may call an admin port, as arguments of the commands that open one.

use std::path::PathBuf;

/// The names of an admin port.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct AdminHosts {
    /// Other names by which clients address the admin port; separated by commas. IP addresses, names without a dot,
    /// *.svc, *.cluster.local and the name of this machine are known.
    #[arg(long = "admin-host", value_name = "NAME", value_delimiter = ',', env = "WSCLUSTER_ADMIN_HOST")]
    pub names: Vec<String>,
}

/// Whose calls an admin port takes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Access {
    /// The names of the port.
    #[command(flatten)]
    pub hosts: AdminHosts,
    /// File with the token that calls to /drain and /evict must carry. Without it they may come from this machine
    /// only, or from anywhere in a Kubernetes pod.
    #[arg(long = "admin-token-file", value_name = "FILE", env = "WSCLUSTER_ADMIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}
