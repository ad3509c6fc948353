//! `wscluster init`: writes a commented manifest to start from. It never replaces a file without `--force`.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wscluster_runtime::exit::{FAILED, fail};

/// The manifest that `wscluster init` writes.
pub const TEMPLATE: &str = include_str!("init.yaml");

const EXAMPLES: &str = "\
Examples:
  # write cluster.yaml and run it
  wscluster init
  wscluster local -f cluster.yaml --demo
  # print the manifest
  wscluster init -

Exit codes: 0 written, 1 not written, 2 wrong command line.";

/// Arguments of `wscluster init`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File to write; `-` prints the manifest.
    #[arg(value_name = "FILE", default_value = "cluster.yaml")]
    file: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
}

/// Writes the manifest. Exit codes: 0 written, 1 not written.
pub fn run(args: &Args) -> ExitCode {
    let path = args.file.display();
    let is_printed = args.file == Path::new("-");
    let written = if is_printed { io::stdout().lock().write_all(TEMPLATE.as_bytes()) } else { write(args) };
    match written {
        Ok(()) if is_printed => ExitCode::SUCCESS,
        Ok(()) => {
            println!("Wrote {path}. Run it: wscluster local -f {path} --demo");
            ExitCode::SUCCESS
        }
        Err(error) if is_printed && error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fail(FAILED, format_args!("{path} exists; name another file, or replace it with --force"))
        }
        Err(error) => {
            fail(FAILED, format_args!("failed to write {path}: {error}; name a file in a writable directory"))
        }
    }
}

fn write(args: &Args) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(&args.file)?.write_all(TEMPLATE.as_bytes())
}

#[cfg(test)]
mod tests {
    use wscluster_api::{WsCluster, manifest};
    use wscluster_runtime::args::parsed;

    use super::*;

    fn parse(text: &str) -> WsCluster {
        manifest::parse(text, Path::new("init.yaml")).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Whether a line of the template is a field that is commented out, not prose.
    fn is_field(line: &str) -> bool {
        let text = line.trim_start().strip_prefix('#').unwrap_or(" ");
        text.starts_with(|first: char| first.is_ascii_lowercase()) || text.starts_with("  ")
    }

    /// The blocks of fields that are commented out: their lines, and whether they show an example.
    fn blocks() -> Vec<(std::ops::Range<usize>, bool)> {
        let lines: Vec<_> = TEMPLATE.lines().collect();
        let spec = lines.iter().position(|line| *line == "spec:").unwrap();
        let mut blocks: Vec<(std::ops::Range<usize>, bool)> = Vec::new();
        for index in (spec..lines.len()).filter(|index| is_field(lines[*index])) {
            match blocks.last_mut() {
                Some((range, _)) if range.end == index => range.end = index + 1,
                _ => blocks.push((index..index + 1, lines[index - 1].ends_with("(example)"))),
            }
        }
        blocks
    }

    fn with_fields(blocks: &[std::ops::Range<usize>]) -> String {
        let is_chosen = |index: &usize| blocks.iter().any(|block| block.contains(index));
        let lines = TEMPLATE.lines().enumerate();
        lines.fold(String::new(), |text, (index, line)| {
            text + &if is_chosen(&index) { line.replacen('#', "", 1) } else { line.to_owned() } + "\n"
        })
    }

    #[test]
    fn template_is_valid_and_so_is_each_field_that_is_commented_out() {
        let plain = parse(TEMPLATE);
        let blocks = blocks();
        assert!(blocks.len() > 5, "{blocks:?}");
        for (block, is_example) in &blocks {
            let cluster = parse(&with_fields(std::slice::from_ref(block)));
            let is_same = cluster.spec == plain.spec;
            assert_eq!(is_same, !is_example, "line {}: a default, or else an (example)", block.start + 1);
        }
        parse(&with_fields(&blocks.into_iter().map(|(block, _)| block).collect::<Vec<_>>()));
    }

    #[test]
    fn replaces_a_file_only_with_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.yaml");
        let init = |more: &[&str]| {
            let line = ["init", file.to_str().unwrap()].iter().chain(more).copied().collect::<Vec<_>>();
            run(&parsed(line).unwrap())
        };
        assert_eq!(init(&[]), ExitCode::SUCCESS);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), TEMPLATE);
        std::fs::write(&file, "mine").unwrap();
        assert_eq!(init(&[]), ExitCode::from(FAILED));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        assert_eq!(init(&["--force"]), ExitCode::SUCCESS);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), TEMPLATE);
    }
}
