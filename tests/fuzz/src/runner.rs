//! Runs targets on mutated inputs of a corpus: a bounded number of executions, determined by a seed.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::Target;
use crate::mutate::mutate;

/// Executions to find a shorter input that fails too.
const SHRINKING: u32 = 2_000;

/// How to run a target.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Determines every input.
    pub seed: u64,
    /// Executions with mutated inputs, after those with the corpus itself.
    pub executions: u64,
    /// Folder with one folder a target.
    pub corpus: PathBuf,
    /// Folder for failing inputs.
    pub failures: PathBuf,
    /// File for each input before it is executed: it keeps one that ends the process.
    pub keep_last: Option<PathBuf>,
}

/// The end of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Executions, the one that failed included.
    pub executions: u64,
    /// Inputs of the corpus.
    pub corpus: usize,
    /// The file with the first failing input.
    pub failure: Option<PathBuf>,
}

/// A corpus or failing input that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to access {path}: {source}")]
pub struct FileError {
    /// The path.
    pub path: PathBuf,
    /// The I/O error.
    pub source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    |source| FileError { path: path.into(), source }
}

/// The inputs in the corpus of a target, by file name.
pub fn corpus(folder: &Path) -> Result<Vec<Vec<u8>>, FileError> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(at(folder))?;
    paths.sort();
    paths.iter().map(|path| fs::read(path).map_err(at(path))).collect()
}

/// Whether a target keeps its invariants for an input.
pub fn passes(target: &Target, input: &[u8]) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok()
}

/// Runs a target until it fails or the executions are used up.
pub fn run(target: &Target, settings: &Settings) -> Result<Outcome, FileError> {
    let corpus = corpus(&settings.corpus.join(target.name))?;
    let mut outcome = Outcome { executions: 0, corpus: corpus.len(), failure: None };
    // Another stream for each target, so that `run` with one target repeats a run with all.
    let mut rng = SmallRng::seed_from_u64(settings.seed ^ hash(target.name.as_bytes()));
    let total = corpus.len() as u64 + settings.executions;
    for execution in 0..total {
        let input = match corpus.get(execution as usize) {
            Some(input) => input.clone(),
            None => mutate(&mut rng, &corpus, target.words),
        };
        if let Some(file) = &settings.keep_last {
            fs::write(file, &input).map_err(at(file))?;
        }
        outcome.executions += 1;
        if !passes(target, &input) {
            let shorter = quietly(|| shrink(target, input));
            outcome.failure = Some(write(target, &settings.failures, &shorter)?);
            break;
        }
    }
    Ok(outcome)
}

/// Removes what the failure does not need.
fn shrink(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let (mut left, mut size) = (SHRINKING, input.len().div_ceil(2).max(1));
    loop {
        let mut at = 0;
        while at < input.len() && left > 0 {
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            left -= 1;
            if passes(target, &shorter) { at += size } else { input = shorter }
        }
        if size == 1 || left == 0 {
            return input;
        }
        size = size.div_ceil(2);
    }
}

/// Without the messages of expected panics.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = work();
    panic::set_hook(hook);
    result
}

fn write(target: &Target, folder: &Path, input: &[u8]) -> Result<PathBuf, FileError> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let path = folder.join(format!("{}-{:016x}", target.name, hash(input)));
    fs::write(&path, input).map_err(at(&path))?;
    Ok(path)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TARGETS;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn settings(folder: &Path) -> Settings {
        let corpus = folder.join("corpus");
        fs::create_dir_all(corpus.join("folded")).unwrap();
        fs::write(corpus.join("folded/line"), "GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        Settings { seed: 7, executions: 20_000, corpus, failures: folder.join("failures"), keep_last: None }
    }

    const FOLDED: Target = Target {
        name: "folded",
        run: |input| assert!(!input.windows(3).any(|three| three == b"\r\n\t"), "folded"),
        words: &["\t", "\r\n"],
        executions: 0,
    };

    #[test]
    fn every_input_of_the_corpus_passes() {
        for target in TARGETS {
            let inputs = corpus(&root().join("fuzz/corpus").join(target.name)).unwrap();
            assert!(inputs.len() > 4, "{} has {} inputs", target.name, inputs.len());
            for input in &inputs {
                (target.run)(input);
            }
        }
    }

    #[test]
    fn every_target_has_a_libfuzzer_program() {
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        for target in TARGETS {
            let name = target.name;
            let program = fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
            assert!(program.contains(&format!("wscluster_fuzz_entry::{name}(data)")), "{name}");
            assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n")), "{name}");
        }
        assert_eq!(fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap().count(), TARGETS.len());
        assert_eq!(fs::read_dir(root().join("fuzz/corpus")).unwrap().count(), TARGETS.len());
    }

    #[test]
    fn a_failing_input_is_found_shortened_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let outcome = quietly(|| run(&FOLDED, &settings)).unwrap();
        assert!(outcome.executions <= settings.executions, "{outcome:?}");
        let input = fs::read(outcome.failure.unwrap()).unwrap();
        assert_eq!(input, b"\r\n\t");
    }

    #[test]
    fn a_seed_determines_every_input() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let [first, second] = [0, 1].map(|_| quietly(|| run(&FOLDED, &settings)).unwrap());
        assert_eq!(first, second);
        let other = quietly(|| run(&FOLDED, &Settings { seed: 8, ..settings })).unwrap();
        assert_ne!(first.executions, other.executions);
    }

    #[test]
    fn keeps_the_last_input() {
        let folder = tempfile::tempdir().unwrap();
        let last = folder.path().join("last");
        let settings = Settings { keep_last: Some(last.clone()), executions: 0, ..settings(folder.path()) };
        assert_eq!(run(&FOLDED, &settings).unwrap().failure, None);
        assert_eq!(fs::read(last).unwrap(), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
}
