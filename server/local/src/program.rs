//! How each process is started. Starts nothing.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use wscluster_api::Part as Kind;
use wscluster_runtime::child_process::{Listen, Program};

use super::revision::Version;

/// What stays the same for every child.
#[derive(Debug)]
pub struct Setting {
    /// This executable.
    pub executable: PathBuf,
    /// Brokers instead of the manifest's.
    pub brokers: Option<String>,
    /// Arguments that every child gets: how it logs.
    pub log: Vec<OsString>,
}

/// Where a child listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Clients.
    pub ws: SocketAddr,
    /// Health.
    pub admin: SocketAddr,
}

/// A version of a part, and the file where its processes read it.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The version.
    pub version: &'a Version,
    /// The file.
    pub file: &'a Path,
}

impl Setting {
    /// Shard `name`.
    pub fn shard(&self, name: &str, at: At, written: Written<'_>) -> Program {
        let mut args = self.args(Kind::Shard, at, written);
        args.extend(["--name".into(), name.into()]);
        args.extend(["--revision".into(), OsString::from(&written.version.revision)]);
        if let Some(brokers) = &self.brokers {
            args.extend(["--brokers".into(), OsString::from(brokers)]);
        }
        self.program(name, args, written.version)
    }

    /// Gateway `name`, which follows the list of shards in `members`.
    pub fn gateway(&self, name: &str, at: At, written: Written<'_>, members: &Path) -> Program {
        let mut args = self.args(Kind::Gateway, at, written);
        args.extend(["--members".into(), members.into()]);
        let listen = Some(Listen { addr: at.ws, sockets: workers(written.version) });
        Program { listen, ..self.program(name, args, written.version) }
    }

    fn args(&self, kind: Kind, at: At, written: Written<'_>) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![kind.to_string().into(), "-f".into(), written.file.into()];
        args.extend(["--listen".into(), at.ws.to_string().into(), "--admin".into(), at.admin.to_string().into()]);
        args.extend(["--workers".into(), workers(written.version).to_string().into()]);
        args.push("--exit-with-parent".into());
        args.extend(self.log.iter().cloned());
        args
    }

    fn program(&self, name: &str, args: Vec<OsString>, version: &Version) -> Program {
        Program { name: name.into(), path: self.executable.clone(), args, env: version.env.clone(), listen: None }
    }
}

/// Several processes share this machine: one event loop each, unless the manifest asks for more.
fn workers(version: &Version) -> u32 {
    version.workers.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use wscluster_api::WsCluster;

    use super::*;

    const MANIFEST: &str = r#"
apiVersion: wscluster.dev/v1alpha1
kind: WsCluster
metadata: { name: prices }
spec:
  source: { kafka: { topics: [ { name: odin.trades, channel: "{key}.trade" } ] } }
  template: { shard: { workers: 2, env: [ { name: RUST_BACKTRACE, value: "1" } ] } }
"#;

    fn cluster() -> WsCluster {
        wscluster_api::manifest::parse(MANIFEST, Path::new("cluster.yaml")).unwrap()
    }

    fn setting(brokers: Option<&str>) -> Setting {
        let log = vec!["--log".into(), "debug".into()];
        Setting { executable: "/bin/wscluster".into(), brokers: brokers.map(Into::into), log }
    }

    fn at() -> At {
        At { ws: "127.0.0.1:1".parse().unwrap(), admin: "127.0.0.1:2".parse().unwrap() }
    }

    fn line(program: &Program) -> String {
        let args: Vec<_> = program.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        args.join(" ")
    }

    #[test]
    fn shard_reads_its_version_and_gets_the_environment_of_the_manifest() {
        let version = Version::new(Kind::Shard, &cluster());
        let written = Written { version: &version, file: Path::new("/run/shard.yaml") };
        let program = setting(Some("127.0.0.1:9")).shard("prices-1", at(), written);
        assert_eq!(
            line(&program),
            format!(
                "shard -f /run/shard.yaml --listen 127.0.0.1:1 --admin 127.0.0.1:2 --workers 2 --exit-with-parent --log debug \
                 --name prices-1 --revision {} --brokers 127.0.0.1:9",
                version.revision
            )
        );
        assert_eq!(program.env, [("RUST_BACKTRACE".to_owned(), "1".to_owned())]);
        let own = setting(None).shard("prices-1", at(), written);
        assert!(!line(&own).contains("--brokers"), "the brokers of the manifest are left alone");
    }

    #[test]
    fn gateway_follows_the_list_of_shards() {
        let version = Version::new(Kind::Gateway, &cluster());
        let written = Written { version: &version, file: Path::new("/run/gateway.yaml") };
        let program = setting(None).gateway("gateway-0", at(), written, Path::new("/run/members"));
        assert_eq!(
            line(&program),
            "gateway -f /run/gateway.yaml --listen 127.0.0.1:1 --admin 127.0.0.1:2 --workers 1 --exit-with-parent --log debug \
             --members /run/members"
        );
        assert_eq!((&*program.name, program.env.len()), ("gateway-0", 0));
    }
}
