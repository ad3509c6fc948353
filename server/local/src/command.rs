//! `wscluster local` from its arguments to its exit code: reads the manifest, checks the arguments against it, runs,
//! and reports errors.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum as _;
use wscluster_api::WsCluster;
use wscluster_api::manifest::{self, ManifestError};
use wscluster_runtime::args::Output;
use wscluster_runtime::exit::{FAILED, USAGE, fail, hint, report};
use wscluster_runtime::fds;
use wscluster_runtime::logs::LogArgs;

use super::args::Args;
use super::edit_rules::Overrides;
use super::event::Event;
use super::run::{self, Job, ManifestSource, RunEnd, RunError};
use super::screen::Screen;

/// Exit code after a second Ctrl-C: 128 + SIGINT, the convention of shells.
const INTERRUPTED: u8 = 130;
/// The manifest that runs without `--file`.
const QUICKSTART: &str = include_str!("../../../manifests/quickstart.yaml");
/// Its path in the repository, for messages.
const QUICKSTART_PATH: &str = "manifests/quickstart.yaml";

/// The cluster of the built-in quickstart manifest.
pub fn quickstart() -> Result<WsCluster, String> {
    manifest::parse(QUICKSTART, Path::new(QUICKSTART_PATH)).map_err(|error| error.to_string())
}

/// Runs `wscluster local` until a signal ends it.
pub fn run(args: Args, log: &LogArgs) -> ExitCode {
    let mut screen = match Screen::new(args.output, log.log_format) {
        Ok(screen) => screen,
        Err(error) => {
            return fail(FAILED, format_args!("failed to start: {error}"));
        }
    };
    let code = run_on(&mut screen, args, log);
    screen.close();
    screen.flush();
    code
}

fn run_on(screen: &mut Screen, args: Args, log: &LogArgs) -> ExitCode {
    if args.file.as_deref() == Some(Path::new("-")) {
        let error = "--file - is not allowed here; give a path: edits of the manifest are applied during the run";
        return failed(screen, args.output, error, ExitCode::from(USAGE));
    }
    let (manifest, cluster) = match read(args.file) {
        Ok(read) => read,
        Err(error) => return failed(screen, args.output, &error.to_string(), ExitCode::from(USAGE)),
    };
    if matches!(manifest, ManifestSource::BuiltIn) {
        hint(format_args!(
            "running the built-in {QUICKSTART_PATH}; `wscluster init cluster.yaml` writes a manifest of your own for \
             `wscluster local -f cluster.yaml`"
        ));
    }
    if cluster.spec.rollout.supervised {
        screen.note("wscluster local: spec.rollout.supervised needs Kubernetes; steps are not held for approval");
    }
    let overrides = Overrides { port: args.port.is_some(), brokers: !args.brokers.is_empty() };
    let port = args.port.unwrap_or(cluster.spec.gateway.service.port);
    let above = if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) };
    let admin_port = args.admin_port.unwrap_or(above);
    if admin_port == port && port != 0 {
        let error = format!(
            "--admin-port {port} is also the port for clients (--port, or spec.gateway.service.port); choose another one, \
             or 0 for any free one"
        );
        return failed(screen, args.output, &error, ExitCode::from(USAGE));
    }
    let format = log.log_format.to_possible_value().expect("no value is skipped");
    let job = Job {
        cluster,
        manifest,
        overrides,
        host: args.host,
        port,
        admin_port,
        hosts: args.hosts,
        brokers: args.brokers,
        demo: args.demo,
        grace: args.grace.0,
        log: vec!["--log".into(), (&log.log).into(), "--log-format".into(), format.get_name().into()],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run::run(job, screen)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(RunEnd::Clean) => ExitCode::SUCCESS,
        Ok(RunEnd::Killed) => ExitCode::FAILURE,
        Ok(RunEnd::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            let is_usage = matches!(error, RunError::NoDemoTopic | RunError::DemoOnRealBrokers(_) | RunError::Kafka(_));
            let code = if is_usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE };
            failed(screen, args.output, &fds::explain(&error), code)
        }
    }
}

/// Reads the manifest at `path`, or the built-in one.
fn read(path: Option<PathBuf>) -> Result<(ManifestSource, WsCluster), ManifestError> {
    let Some(path) = path else {
        return Ok((ManifestSource::BuiltIn, manifest::parse(QUICKSTART, Path::new(QUICKSTART_PATH))?));
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(ManifestError::Read { path, source }),
    };
    let cluster = manifest::parse(&text, &path)?;
    Ok((ManifestSource::File { path, text }, cluster))
}

fn failed(screen: &mut Screen, output: Output, error: &str, code: ExitCode) -> ExitCode {
    screen.close();
    if output == Output::Json {
        screen.event(&Event::Failed { error: error.to_owned() });
    }
    report(error);
    code
}
