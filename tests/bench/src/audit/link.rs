//! The link between the shards and Kafka. A firewall rule cuts it by dropping every packet, as a broken cable does. The
//! connections of the bench use other ports and are not affected.
//!
//! It works only in a network namespace of its own, which the rules do not outlive, and refuses any other.

use std::process::Command;

use crate::bail;
use crate::error::{Doing as _, Result};

/// The ports through which the shards connect to Kafka.
#[derive(Debug)]
pub(super) struct Link {
    ports: String,
}

/// A link that can be cut. Dropping it restores the link.
#[derive(Debug)]
pub(super) struct Cut<'a>(&'a Link);

impl Link {
    /// The link to these brokers, `host:port,…`.
    pub(super) fn to(brokers: &str) -> Result<Self> {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        if namespace("self").ok() == namespace("1").ok() {
            bail!(
                "this bench cuts network links, so it needs a network namespace of its own: run it by tests/audit/run"
            );
        }
        let ports: Vec<_> = brokers.split(',').filter_map(|broker| broker.rsplit(':').next()).collect();
        Ok(Self { ports: ports.join(",") })
    }

    /// Drops every packet from now on.
    pub(super) fn cut(&self) -> Result<Cut<'_>> {
        let cut = Cut(self);
        self.rule("--insert", "--dports")?;
        self.rule("--insert", "--sports")?;
        Ok(cut)
    }

    fn rule(&self, verb: &str, side: &str) -> Result<()> {
        let rule = ["INPUT", "--protocol", "tcp", "--match", "multiport", side, &self.ports, "--jump", "DROP"];
        let output = Command::new("iptables").arg("--wait").arg(verb).args(rule).output().doing("run iptables")?;
        if !output.status.success() {
            bail!("failed to {verb} a firewall rule: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Cut<'_> {
    /// Lets packets through again.
    pub(super) fn mend(self) -> Result<()> {
        let link = self.0;
        std::mem::forget(self);
        link.rule("--delete", "--dports")?;
        link.rule("--delete", "--sports")
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        for side in ["--dports", "--sports"] {
            let _ = self.0.rule("--delete", side);
        }
    }
}
