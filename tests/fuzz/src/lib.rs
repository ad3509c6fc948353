//! Entry points for fuzzing: every parser of bytes that come from strangers, each as a plain function of bytes that
//! panics when an invariant is broken.
//!
//! Two programs call them: the libFuzzer targets in `fuzz/` (`cargo fuzz run request_head`, nightly Rust), and
//! `wscluster-fuzz`, a seeded runner on stable Rust with a bounded number of executions, for CI. Both begin with the
//! inputs in `fuzz/corpus`.
//!
//! To add a target: a file in `src/targets`, an entry in [`TARGETS`], a program in `fuzz/fuzz_targets` with its
//! `[[bin]]` in `fuzz/Cargo.toml`, and inputs in `fuzz/corpus/NAME`. A test compares the four.

pub mod mutate;
mod reference;
pub mod runner;
mod targets;

pub use targets::boundary::boundary;
pub use targets::frame_decoder::frame_decoder;
pub use targets::manifest::manifest;
pub use targets::position::position;
pub use targets::request_head::request_head;
pub use targets::request_json::request_json;
pub use targets::response_head::response_head;

/// A parser and what the seeded runner needs to fuzz it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name of the libFuzzer target and of the corpus folder.
    pub name: &'static str,
    /// Panics when an invariant is broken.
    pub run: fn(&[u8]),
    /// Words of the format, which the mutator inserts.
    pub words: &'static [&'static str],
    /// Executions of a run in CI: 10 to 20 seconds of CPU in a debug build.
    pub executions: u64,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "request_head", run: request_head, words: targets::HTTP_WORDS, executions: 2_000_000 },
    Target { name: "response_head", run: response_head, words: targets::HTTP_WORDS, executions: 2_000_000 },
    Target { name: "frame_decoder", run: frame_decoder, words: targets::FRAME_WORDS, executions: 1_500_000 },
    Target { name: "boundary", run: boundary, words: targets::FRAME_WORDS, executions: 1_500_000 },
    Target { name: "request_json", run: request_json, words: targets::JSON_WORDS, executions: 3_000_000 },
    Target { name: "position", run: position, words: targets::JSON_WORDS, executions: 3_000_000 },
    Target { name: "manifest", run: manifest, words: targets::MANIFEST_WORDS, executions: 5_000 },
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}
