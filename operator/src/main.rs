//! `wscluster-operator`: runs the operator, or prints what is installed before it runs.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wscluster_operator::run::{Args, run};

/// Turns a `WsCluster` into Kubernetes objects and keeps them so.
#[derive(Parser)]
#[command(version, about = "Turns a WsCluster into Kubernetes objects and keeps them so", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator.
    #[command(after_help = "Examples:\n  wscluster-operator run                      in a pod: every namespace\n  \
                            wscluster-operator run --namespace shop     one namespace, or several: --namespace a,b\n  \
                            KUBECONFIG=~/.kube/config wscluster-operator run --own-namespace default --admin 127.0.0.1:9090")]
    Run(Box<Args>),
    /// Print the custom resource definition.
    #[command(after_help = "Examples:\n  wscluster-operator crd | kubectl apply --server-side -f -\n  \
                            wscluster-operator crd > crds/wscluster.yaml")]
    Crd,
    /// Print the reference of all fields as Markdown.
    Fields,
}

fn main() -> ExitCode {
    let text = match Arguments::parse().command {
        Command::Run(args) => {
            return match run(*args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {error}");
                    ExitCode::FAILURE
                }
            };
        }
        Command::Crd => wscluster_operator::crd(),
        Command::Fields => wscluster_operator::fields(),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as `head` does.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: failed to write to standard output: {e}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}
