//! Makes new inputs from those of a corpus: a few changes to one input, determined by a random number generator.

use rand::RngExt as _;
use rand::rngs::SmallRng;

/// Longest input. Above it, mutations remove more than they add.
pub const MAX_LEN: usize = 8 << 10;

/// Bytes at the edges of what parsers distinguish.
const EDGES: &[u8] = &[0, 1, 9, 10, 13, 32, 34, 44, 58, 92, 125, 126, 127, 128, 136, 137, 192, 224, 237, 244, 254, 255];

/// An input made from one of `corpus`. `words` belong to the format.
pub fn mutate(rng: &mut SmallRng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = pick(rng, corpus).cloned().unwrap_or_default();
    // Mostly few changes, so that the result stays near a valid input.
    for _ in 0..1 << rng.random_range(0..4_u32) {
        change(rng, &mut input, corpus, words);
    }
    input.truncate(MAX_LEN);
    input
}

fn change(rng: &mut SmallRng, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str]) {
    let at = rng.random_range(0..=input.len());
    let longest = 1 << rng.random_range(0..7_u32);
    let run = rng.random_range(1..=longest).min(input.len() - at);
    match rng.random_range(0..10_u32) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8_u32),
        1 if at < input.len() => input[at] = rng.random(),
        2 if at < input.len() => input[at] = pick(rng, EDGES).copied().unwrap_or_default(),
        3 => input.insert(at, pick(rng, EDGES).copied().unwrap_or_default()),
        4 => drop(input.drain(at..at + run)),
        5 => {
            let copy = input[at..at + run].to_vec();
            let to = rng.random_range(0..=input.len());
            drop(input.splice(to..to, copy));
        }
        6 => input.truncate(at),
        7 => {
            let other = pick(rng, corpus).cloned().unwrap_or_default();
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let word = pick(rng, words).copied().unwrap_or_default().bytes();
            let replaced = if rng.random() { run } else { 0 };
            drop(input.splice(at..at + replaced, word));
        }
    }
}

fn pick<'t, T>(rng: &mut SmallRng, all: &'t [T]) -> Option<&'t T> {
    (!all.is_empty()).then(|| &all[rng.random_range(0..all.len())])
}
