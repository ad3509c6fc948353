//! Which processes a manifest means on this machine, and how each is started. Starts nothing.
//!
//! Every port is reserved here, before anything runs: so a port in use is an error with nothing to clean up, and each child
//! knows all addresses from its first moment and keeps its own through every restart.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use wscluster_api::WsCluster;
use wscluster_api::spec::PodTemplate;

use super::child::Program;
use super::ports::{PortError, Reserved};

/// What stays the same for every child.
#[derive(Debug)]
pub struct Setting<'a> {
    /// This executable.
    pub executable: PathBuf,
    /// The manifest, which the children read themselves.
    pub manifest: &'a Path,
    /// Where gateways listen.
    pub front: SocketAddr,
    /// Brokers instead of the manifest's.
    pub brokers: Option<String>,
    /// Arguments that every child gets: how it logs.
    pub log: Vec<OsString>,
}

/// What a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Holds connections.
    Shard,
    /// Routes upgrades.
    Gateway,
}

/// One process to keep running.
#[derive(Debug)]
pub struct Planned {
    /// What it is.
    pub kind: Kind,
    /// How it is started.
    pub program: Program,
    /// Where clients connect.
    pub ws: SocketAddr,
    /// Where its health is.
    pub admin: SocketAddr,
    /// Held for as long as the plan lives; gateways share one more.
    _ports: Vec<Reserved>,
}

/// All processes of a run.
#[derive(Debug)]
pub struct Plan {
    /// Shards, then gateways.
    pub children: Vec<Planned>,
    /// The port all gateways share.
    pub front: Reserved,
}

/// The shards and gateways of `cluster`, with their ports.
pub fn plan(cluster: &WsCluster, setting: &Setting<'_>) -> Result<Plan, PortError> {
    let front = Reserved::take(setting.front)?;
    let name = cluster.metadata.name.as_deref().unwrap_or("wscluster");
    let template = &cluster.spec.template;
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut children = Vec::new();
    let mut targets = Vec::new();
    for ordinal in 0..cluster.spec.shards {
        let name = format!("{name}-{ordinal}");
        let (ws, admin) = (Reserved::take(any)?, Reserved::take(any)?);
        targets.push(format!("{name}={},{}", ws.addr(), admin.addr()));
        let mut args = setting.args("shard", ws.addr(), admin.addr(), &template.shard);
        args.extend(["--name".into(), OsString::from(&name)]);
        if let Some(brokers) = &setting.brokers {
            args.extend(["--brokers".into(), OsString::from(brokers)]);
        }
        let program = setting.program(name, args, &template.shard);
        children.push(Planned {
            kind: Kind::Shard,
            program,
            ws: ws.addr(),
            admin: admin.addr(),
            _ports: vec![ws, admin],
        });
    }
    for ordinal in 0..cluster.spec.gateway.replicas {
        let admin = Reserved::take(any)?;
        let mut args = setting.args("gateway", front.addr(), admin.addr(), &template.gateway);
        for target in &targets {
            args.extend(["--shard".into(), OsString::from(target)]);
        }
        let program = setting.program(format!("gateway-{ordinal}"), args, &template.gateway);
        let (ws, at) = (front.addr(), admin.addr());
        children.push(Planned { kind: Kind::Gateway, program, ws, admin: at, _ports: vec![admin] });
    }
    Ok(Plan { children, front })
}

impl Setting<'_> {
    fn args(&self, part: &str, ws: SocketAddr, admin: SocketAddr, pod: &PodTemplate) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![part.into(), "-f".into(), self.manifest.into()];
        args.extend(["--listen".into(), ws.to_string().into(), "--admin".into(), admin.to_string().into()]);
        // Several processes share this machine: one event loop each, unless the manifest asks for more.
        args.extend(["--workers".into(), pod.workers.unwrap_or(1).to_string().into()]);
        args.push("--exit-with-parent".into());
        args.extend(self.log.iter().cloned());
        args
    }

    fn program(&self, name: String, args: Vec<OsString>, pod: &PodTemplate) -> Program {
        // `valueFrom` names things of Kubernetes; there is nothing here to take them from.
        let env = pod.env.iter().filter_map(|var| Some((var.name.clone(), var.value.clone()?))).collect();
        Program { name: name.into(), path: self.executable.clone(), args, env }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
apiVersion: wscluster.dev/v1alpha1
kind: WsCluster
metadata: { name: prices }
spec:
  shards: 3
  source: { kafka: { topics: [ { name: odin.trades, channel: "{key}.trade" } ] } }
  gateway: { replicas: 2 }
  template: { shard: { workers: 2, env: [ { name: RUST_BACKTRACE, value: "1" } ] } }
"#;

    fn planned(brokers: Option<&str>) -> Plan {
        let cluster = wscluster_api::manifest::parse(MANIFEST, Path::new("cluster.yaml")).unwrap();
        let setting = Setting {
            executable: "/bin/wscluster".into(),
            manifest: Path::new("cluster.yaml"),
            front: "127.0.0.1:0".parse().unwrap(),
            brokers: brokers.map(Into::into),
            log: vec!["--log".into(), "debug".into()],
        };
        plan(&cluster, &setting).unwrap()
    }

    fn line(child: &Planned) -> String {
        let args: Vec<_> = child.program.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        args.join(" ")
    }

    #[test]
    fn starts_shards_with_ports_of_their_own() {
        let plan = planned(Some("127.0.0.1:9"));
        let shard = &plan.children[1];
        assert_eq!(
            line(shard),
            format!(
                "shard -f cluster.yaml --listen {} --admin {} --workers 2 --exit-with-parent --log debug --name prices-1 \
                 --brokers 127.0.0.1:9",
                shard.ws, shard.admin
            )
        );
        assert_eq!(shard.program.env, [("RUST_BACKTRACE".to_owned(), "1".to_owned())]);
        let ports: std::collections::BTreeSet<_> = plan.children.iter().flat_map(|c| [c.ws, c.admin]).collect();
        assert_eq!(ports.len(), 3 * 2 + 2 + 1, "all different, but for the port the gateways share");
    }

    #[test]
    fn tells_each_gateway_all_shards() {
        let plan = planned(None);
        let gateways: Vec<_> = plan.children.iter().filter(|child| child.kind == Kind::Gateway).collect();
        assert_eq!(gateways.len(), 2);
        for gateway in gateways {
            assert_eq!(gateway.ws, plan.front.addr());
            for shard in &plan.children[..3] {
                let target = format!("--shard {}={},{}", shard.program.name, shard.ws, shard.admin);
                assert!(line(gateway).contains(&target), "{}", line(gateway));
            }
        }
    }

    #[test]
    fn leaves_the_brokers_of_the_manifest_alone() {
        assert!(planned(None).children.iter().all(|child| !line(child).contains("--brokers")));
    }
}
