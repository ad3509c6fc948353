//! `wscluster-operator`: runs the operator, or prints the custom resource definition and the reference of its fields.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wscluster_operator::run::{Args, run};

#[derive(Parser)]
#[command(version, about = "The Kubernetes operator of wscluster", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator.
    #[command(after_help = "Examples:\n  \
        # in a pod, for all namespaces\n  wscluster-operator run\n  \
        # for two namespaces\n  wscluster-operator run --namespace shop,billing\n  \
        # on a workstation\n  KUBECONFIG=~/.kube/config wscluster-operator run --own-namespace default")]
    Run(Box<Args>),
    /// Print the custom resource definition as YAML.
    #[command(after_help = "Examples:\n  wscluster-operator crd | kubectl apply --server-side -f -\n  \
                            wscluster-operator crd > crds/wscluster.yaml")]
    Crd,
    /// Print the reference of all fields of a `WsCluster` as Markdown.
    #[command(after_help = "Examples:\n  wscluster-operator fields > docs/fields.md")]
    Fields,
    /// Print the reference of the operator's metrics as Markdown.
    #[command(after_help = "Examples:\n  wscluster-operator metrics | less")]
    Metrics,
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
        Command::Metrics => match wscluster_operator::metrics_reference() {
            Ok(text) => text,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // The reader has closed the pipe, as `head` does.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: failed to write to standard output: {e}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn help_fits_into_100_columns_and_has_examples() {
        let mut root = Arguments::command().term_width(100);
        root.build();
        for command in root.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Examples:"), "{}", command.get_name());
            let help = command.render_long_help().to_string();
            for line in help.lines().chain(examples.lines()) {
                assert!(line.chars().count() <= 100, "{line}");
            }
            for example in examples.lines().filter(|line| !line.trim().starts_with('#')).skip(1) {
                let words = example.split_whitespace().skip_while(|word| *word != "wscluster-operator");
                let parsed = Arguments::try_parse_from(words.take_while(|word| !["|", ">"].contains(word)));
                assert!(parsed.is_ok(), "{example}: {}", parsed.err().unwrap());
            }
        }
    }
}
