//! `wscluster-operator`: for now it prints the custom resource definition.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Turns a `WsCluster` into Kubernetes objects and keeps them so.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the custom resource definition.
    #[command(after_help = "Examples:\n  wscluster-operator crd | kubectl apply --server-side -f -\n  \
                            wscluster-operator crd > crds/wscluster.yaml")]
    Crd,
}

fn main() -> ExitCode {
    let Command::Crd = Arguments::parse().command;
    match io::stdout().lock().write_all(wscluster_operator::crd().as_bytes()) {
        // Whoever reads has seen enough, as `head` does.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: failed to write the definition: {e}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}
