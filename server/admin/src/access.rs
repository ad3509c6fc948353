//! Who may call an admin port, as arguments of the commands that open one.

/// Arguments about the callers of an admin port.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Access {
    /// Other names by which clients address the admin port; separated by commas. IP addresses, names without a dot,
    /// *.svc, *.cluster.local and the name of this machine are known.
    #[arg(long = "admin-host", value_name = "NAME", value_delimiter = ',', env = "WSCLUSTER_ADMIN_HOST")]
    pub host_names: Vec<String>,
}
