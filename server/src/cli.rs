//! The command line: every subcommand has its own `Args` and `run`, in the crate that does its work.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use wscluster_gateway as gateway;
use wscluster_load as load;
use wscluster_local as local;
use wscluster_manifest::{init, validate};
use wscluster_runtime::args::{old_spellings, without_empty_variables};
use wscluster_runtime::exit::{FAILED, fail, hint};
use wscluster_runtime::logs::{self, LogArgs};
use wscluster_shard as shard;
use wscluster_tools::{publish, tail, top, verify};

/// Streams Kafka records to browsers over WebSocket, from as many shards as the clients need.
#[derive(Parser, Debug)]
#[command(name = "wscluster", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand, Debug)]
enum Part {
    /// Run a WsCluster manifest as processes on this machine.
    Local(Box<local::Args>),
    /// Run a shard: hold client connections and send them Kafka records.
    Shard(Box<shard::Args>),
    /// Run a gateway: route each upgrade to a shard with a free slot.
    Gateway(Box<gateway::Args>),
    /// Write a commented manifest to start from.
    Init(Box<init::Args>),
    /// Check manifests and list every error.
    Validate(Box<validate::Args>),
    /// Publish records to Kafka.
    Publish(Box<publish::Args>),
    /// Print the messages of channels as they arrive.
    Tail(Box<tail::Args>),
    /// Show the shards of a running cluster in a live table.
    Top(Box<top::Args>),
    /// Check a running deployment end to end.
    Verify(Box<verify::Args>),
    /// Load a deployment with many clients and audit what they receive.
    Load(Box<load::Args>),
    /// Print the completion script of a shell.
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// Shell to complete for.
        shell: Shell,
    },
    /// Print the reference of all metrics as Markdown.
    #[command(after_help = METRICS)]
    Metrics,
    /// Print the manual page, or write the pages of all subcommands to a directory.
    #[command(after_help = MAN)]
    Man {
        /// Directory to write the pages to [default: print the page of `wscluster`].
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

const EXAMPLES: &str = "\
Examples:
  # write a manifest, check it and run it
  wscluster init cluster.yaml
  wscluster validate -f cluster.yaml
  wscluster local -f cluster.yaml --demo
  # receive the messages of a channel
  wscluster tail --url ws://127.0.0.1:8080/ws BTC.trade

Exit codes: 0 succeeded, 1 failed, 2 wrong command line or manifest. A command with further codes
lists them in its --help.";

const COMPLETIONS: &str = "\
Examples:
  # for this shell only
  source <(wscluster completions bash)
  # for every new shell
  wscluster completions bash > ~/.local/share/bash-completion/completions/wscluster
  wscluster completions fish > ~/.config/fish/completions/wscluster.fish
  wscluster completions zsh > ~/.zfunc/_wscluster";

const METRICS: &str = "\
Examples:
  wscluster metrics | less";

const MAN: &str = "\
Examples:
  # read the page of wscluster
  wscluster man | man -l -
  # install one page per subcommand: wscluster.1, wscluster-local.1, …
  wscluster man ~/.local/share/man/man1";

/// Parses the command line, runs the subcommand it names, and returns its exit code.
pub(crate) fn run() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let mut command = without_empty_variables(Cli::command());
    let matches = command.get_matches_mut();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let _logs = match logs::init(&cli.log) {
        Ok(logs) => logs,
        Err(error) => return fail(FAILED, format_args!("failed to start logging: {error}")),
    };
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        old_spellings(command, matches, &words).iter().for_each(hint);
    }
    match cli.part {
        Part::Local(args) => local::run(*args, &cli.log),
        Part::Shard(args) => shard::run(*args),
        Part::Gateway(args) => gateway::run(*args),
        Part::Init(args) => init::run(&args),
        Part::Validate(args) => validate::run(&args),
        Part::Publish(args) => publish::run(*args),
        Part::Tail(args) => tail::run(&args),
        Part::Top(args) => top::run(&args),
        Part::Verify(args) => verify::run(&args),
        Part::Load(args) => load::run(*args),
        Part::Completions { shell } => completions(shell),
        Part::Metrics => metrics(),
        Part::Man { dir } => man(dir),
    }
}

fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wscluster", &mut script);
    print(&script)
}

fn metrics() -> ExitCode {
    let sections = || {
        Ok::<_, String>([
            ("Every process", wscluster_admin::metrics::process_reference()?),
            ("Shard", shard::metrics_reference()?),
            ("Kafka source of a shard", wscluster_kafka::metrics_reference()?),
            ("Gateway", gateway::metrics_reference(&local::quickstart()?.spec)?),
        ])
    };
    match sections() {
        Ok(sections) => print(sections.map(|(title, table)| format!("## {title}\n\n{table}")).join("\n").as_bytes()),
        Err(error) => fail(FAILED, error),
    }
}

fn man(dir: Option<PathBuf>) -> ExitCode {
    let command = Cli::command().disable_help_subcommand(true);
    let Some(dir) = dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        return rendered.map_or_else(|error| fail(FAILED, error), |()| print(&page));
    };
    let written = std::fs::create_dir_all(&dir).and_then(|()| clap_mangen::generate_to(command, &dir));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let dir = dir.display();
            fail(FAILED, format_args!("failed to write manual pages to {dir}: {error}; name a writable directory"))
        }
    }
}

fn print(bytes: &[u8]) -> ExitCode {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(FAILED, format_args!("failed to write to standard output: {error}"))
        }
        // A reader that has seen enough, such as `head`, closes the pipe.
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsStr;

    use clap::Command;
    use wscluster_runtime::args::VARIABLES;

    use super::*;

    /// Widest line of a help text, in columns.
    const WIDTH: usize = 100;

    fn commands() -> Vec<Command> {
        let mut root = Cli::command().term_width(WIDTH);
        root.build();
        let subcommands: Vec<_> =
            root.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect();
        std::iter::once(root).chain(subcommands).collect()
    }

    /// The texts after the arguments, as they are written: clap would wrap a longer line.
    fn texts(command: &Command) -> Vec<String> {
        [command.get_after_help(), command.get_after_long_help()]
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect()
    }

    /// The command lines below `Examples:`, with continued lines joined.
    fn examples(text: &str) -> Vec<String> {
        let text = text.replace("\\\n", " ");
        let lines = text.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
        lines.map(|line| line.trim().to_owned()).filter(|line| !line.starts_with('#')).collect()
    }

    /// The words of a line of a shell. Quotes are stripped; examples use no other expansion.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for letter in line.chars() {
            match (quote, letter) {
                (None, ' ') => words.push(String::new()),
                (None, '\'' | '"') => quote = Some(letter),
                (Some(open), _) if open == letter => quote = None,
                _ => words.last_mut().unwrap().push(letter),
            }
        }
        assert_eq!(quote, None, "open quote: {line}");
        words.retain(|word| !word.is_empty());
        words
    }

    /// The words of each `wscluster` command in a shell line, without redirections and other commands.
    fn lines(example: &str) -> Vec<Vec<String>> {
        let words = words(example);
        let commands = words.split(|word| ["|", "&", "&&", "<"].contains(&word.as_str()));
        commands
            .filter_map(|words| {
                let start = words.iter().position(|word| word.trim_start_matches("<(") == "wscluster")?;
                let end = words.iter().position(|word| word == ">").unwrap_or(words.len());
                let name = std::iter::once("wscluster".to_owned());
                Some(
                    name.chain(words[start + 1..end].iter().map(|word| word.trim_end_matches(')').to_owned()))
                        .collect(),
                )
            })
            .collect()
    }

    #[test]
    fn lists_the_variables_of_all_arguments() {
        let cli = Cli::command();
        let args = cli.get_subcommands().chain([&cli]).flat_map(Command::get_arguments);
        let names: BTreeSet<_> = args.filter_map(clap::Arg::get_env).collect();
        assert_eq!(names, VARIABLES.iter().map(OsStr::new).collect());
    }

    #[test]
    fn help_fits_into_100_columns() {
        for mut command in commands() {
            let name = command.get_name().to_owned();
            let rendered = [command.render_help().to_string(), command.render_long_help().to_string()];
            for text in rendered.into_iter().chain(texts(&command)) {
                for line in text.lines() {
                    assert!(line.chars().count() <= WIDTH, "{name} --help is wider than {WIDTH} columns: {line}");
                }
            }
        }
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        for command in commands() {
            let name = command.get_name();
            let examples: BTreeSet<_> = texts(&command).iter().flat_map(|text| examples(text)).collect();
            assert!(!examples.is_empty(), "{name} --help has no examples");
            for example in examples {
                for line in lines(&example) {
                    let parsed = Cli::command().try_get_matches_from(&line);
                    let matches = parsed.unwrap_or_else(|error| panic!("{name} --help: {example}\n{error}"));
                    let (part, matches) = matches.subcommand().unwrap();
                    let old = old_spellings(Cli::command().find_subcommand(part).unwrap(), matches, &line_words(&line));
                    assert!(old.is_empty(), "{name} --help: {example}: {old:?}");
                }
            }
        }
    }

    fn line_words(line: &[String]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    #[test]
    fn things_are_spelled_alike_in_all_commands() {
        for command in commands() {
            let name = command.get_name();
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let short = |letter| assert_eq!(arg.get_short(), Some(letter), "{name}: {arg}");
                let value = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str().to_owned());
                match arg.get_long() {
                    Some("file") => short('f'),
                    Some("output") => short('o'),
                    Some("header") => short('H'),
                    Some("url") => assert_eq!(value.as_deref(), Some("URL"), "{name}: {arg}"),
                    Some("brokers") => {
                        short('b');
                        assert_eq!(value.as_deref(), Some("HOST:PORT"), "{name}: {arg}");
                    }
                    Some("timeout") => assert_eq!(value.as_deref(), Some("DURATION"), "{name}: {arg}"),
                    Some(other) => {
                        assert!(!["kafka", "manifest", "gateway", "endpoint"].contains(&other), "{name}: {arg}");
                    }
                    None => {}
                }
                assert!(arg.get_help().is_some(), "{name}: {arg} has no help");
            }
        }
    }

    #[test]
    fn writes_a_completion_script_for_every_shell() {
        for shell in <Shell as clap::ValueEnum>::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "wscluster", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("validate") && script.contains("brokers"), "{shell}");
        }
    }

    #[test]
    fn writes_a_manual_page_for_every_subcommand() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(man(Some(dir.path().into())), ExitCode::SUCCESS);
        for command in commands().iter().skip(1) {
            let page = std::fs::read_to_string(dir.path().join(format!("wscluster-{}.1", command.get_name()))).unwrap();
            assert!(page.contains(".TH") && page.contains(".SH OPTIONS"), "{page}");
        }
        assert!(dir.path().join("wscluster.1").exists());
        let below = dir.path().join("wscluster.1/below");
        assert_eq!(man(Some(below)), ExitCode::from(FAILED));
    }
}
