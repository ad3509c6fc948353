//! Builds the command line of each child process. Starts nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use wscluster_api::Part;
use wscluster_runtime::child_process::{Addresses, Listen, Program};

use super::revision::Revision;

/// What is the same for every child.
#[derive(Debug)]
pub(crate) struct ProgramBuilder {
    /// This executable.
    pub(crate) executable: PathBuf,
    /// Brokers instead of those of the manifest.
    pub(crate) brokers: Option<String>,
    /// The file with the token of every admin port.
    pub(crate) token_file: PathBuf,
    /// The logging arguments of every child.
    pub(crate) log: Vec<OsString>,
}

/// A revision of a part, and the manifest file that its processes read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RevisionFile<'a> {
    pub(crate) revision: &'a Revision,
    pub(crate) path: &'a Path,
}

impl ProgramBuilder {
    /// The program of shard `name`.
    pub(crate) fn shard(&self, name: &str, at: Addresses, file: RevisionFile<'_>) -> Program {
        let mut args = self.args(Part::Shard, at, file);
        args.extend(["--name".into(), name.into()]);
        args.extend(["--revision".into(), OsString::from(&file.revision.id)]);
        if let Some(brokers) = &self.brokers {
            args.extend(["--brokers".into(), OsString::from(brokers)]);
        }
        self.program(name, args, file.revision)
    }

    /// The program of gateway `name`, which follows the list of shards in `members`.
    pub(crate) fn gateway(&self, name: &str, at: Addresses, file: RevisionFile<'_>, members: &Path) -> Program {
        let mut args = self.args(Part::Gateway, at, file);
        args.extend(["--members".into(), members.into()]);
        let listen = Some(Listen { addr: at.ws, sockets: workers(file.revision) });
        Program { listen, ..self.program(name, args, file.revision) }
    }

    fn args(&self, part: Part, at: Addresses, file: RevisionFile<'_>) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![part.to_string().into(), "-f".into(), file.path.into()];
        args.extend(["--listen".into(), at.ws.to_string().into(), "--admin".into(), at.admin.to_string().into()]);
        args.extend(["--workers".into(), workers(file.revision).to_string().into()]);
        args.push("--exit-with-parent".into());
        args.extend(["--admin-token-file".into(), self.token_file.clone().into()]);
        args.extend(self.log.iter().cloned());
        args
    }

    fn program(&self, name: &str, args: Vec<OsString>, revision: &Revision) -> Program {
        Program { name: name.into(), path: self.executable.clone(), args, env: revision.env.clone(), listen: None }
    }
}

/// One event loop for each process, unless the manifest asks for more: several processes share this machine.
fn workers(revision: &Revision) -> u32 {
    revision.workers.unwrap_or(1)
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

    fn builder(brokers: Option<&str>) -> ProgramBuilder {
        let log = vec!["--log".into(), "debug".into()];
        ProgramBuilder {
            executable: "/bin/wscluster".into(),
            brokers: brokers.map(Into::into),
            token_file: "/run/token".into(),
            log,
        }
    }

    fn at() -> Addresses {
        Addresses { ws: "127.0.0.1:1".parse().unwrap(), admin: "127.0.0.1:2".parse().unwrap() }
    }

    fn line(program: &Program) -> String {
        let args: Vec<_> = program.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        args.join(" ")
    }

    #[test]
    fn shard_reads_its_version_and_gets_the_environment_of_the_manifest() {
        let revision = Revision::new(Part::Shard, &cluster());
        let file = RevisionFile { revision: &revision, path: Path::new("/run/shard.yaml") };
        let program = builder(Some("127.0.0.1:9")).shard("prices-1", at(), file);
        assert_eq!(
            line(&program),
            format!(
                "shard -f /run/shard.yaml --listen 127.0.0.1:1 --admin 127.0.0.1:2 --workers 2 --exit-with-parent \
                 --admin-token-file /run/token --log debug \
                 --name prices-1 --revision {} --brokers 127.0.0.1:9",
                revision.id
            )
        );
        assert_eq!(program.env, [("RUST_BACKTRACE".to_owned(), "1".to_owned())]);
        let own = builder(None).shard("prices-1", at(), file);
        assert!(!line(&own).contains("--brokers"), "the brokers of the manifest are left alone");
    }

    #[test]
    fn gateway_follows_the_list_of_shards() {
        let revision = Revision::new(Part::Gateway, &cluster());
        let file = RevisionFile { revision: &revision, path: Path::new("/run/gateway.yaml") };
        let program = builder(None).gateway("gateway-0", at(), file, Path::new("/run/members"));
        assert_eq!(
            line(&program),
            "gateway -f /run/gateway.yaml --listen 127.0.0.1:1 --admin 127.0.0.1:2 --workers 1 --exit-with-parent \
             --admin-token-file /run/token --log debug \
             --members /run/members"
        );
        assert_eq!((&*program.name, program.env.len()), ("gateway-0", 0));
    }
}
