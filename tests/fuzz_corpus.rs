//! A short pass of the fuzz targets: the inputs that fuzzing kept, and some thousands of changes of them, the same ones
//! each time. The long one is `scripts/fuzz`.

use std::fs;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;

/// How many changed inputs each target gets.
const CHANGES: usize = 3_000;
/// What is longer is not changed further.
const LONGEST: usize = 16 * 1024;

#[test]
fn config() {
    run("config", bluegreen_cli::fuzzing::config);
}

#[test]
fn image_ref() {
    run("image_ref", bluegreen_core::fuzzing::image_ref);
}

#[test]
fn imagedefinitions() {
    run("imagedefinitions", bluegreen_cli::fuzzing::imagedefinitions);
}

#[test]
fn journal() {
    run("journal", bluegreen_core::fuzzing::journal);
}

#[test]
fn nginx_rewrite() {
    run("nginx_rewrite", bluegreen_core::fuzzing::nginx_rewrite);
}

fn run(target: &str, check: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut corpus: Vec<_> = fs::read_dir(fuzz.join("corpus").join(target)).unwrap().collect();
    // The order of a directory is any; the changes are to be the same.
    corpus.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    let corpus: Vec<_> = corpus.into_iter().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!corpus.is_empty());
    let words = words(&fs::read_to_string(fuzz.join("dictionaries").join(format!("{target}.dict"))).unwrap());
    check_all(target, check, &corpus);

    let mut random = Random(0x5eed);
    let changed: Vec<_> = (0..CHANGES)
        .map(|_| {
            let mut input = random.of(&corpus).clone();
            for _ in 0..=random.below(4) {
                change(&mut input, &mut random, &corpus, &words);
            }
            input
        })
        .collect();
    check_all(target, check, &changed);
}

/// On every core: one target's inputs take far longer than the others'.
fn check_all(target: &str, check: fn(&[u8]), inputs: &[Vec<u8>]) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for first in 0..cores {
            scope.spawn(move || {
                for input in inputs.iter().skip(first).step_by(cores) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
                    assert!(outcome.is_ok(), "{target} fails on {:?}", String::from_utf8_lossy(input));
                }
            });
        }
    });
}

/// The words of a dictionary in libFuzzer's format.
fn words(text: &str) -> Vec<Vec<u8>> {
    let quoted = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    quoted.map(unescaped).collect()
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut parts = text.split("\\x");
    bytes.extend(parts.next().unwrap_or_default().bytes());
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).unwrap());
        bytes.extend(rest.bytes());
    }
    bytes
}

/// One change: a bit, a byte, a part that is left out, doubled, or replaced by a word or by a part of another input.
fn change(input: &mut Vec<u8>, random: &mut Random, corpus: &[Vec<u8>], words: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at).min(64) + 1);
    match random.below(6) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = *random.of(b"\0\n\r\\\"'{}[]#;:/.@=$ \xff09aZ-_"),
        2 => drop(input.drain(at..end)),
        3 if input.len() < LONGEST => {
            let part = input[at..end].to_vec();
            input.splice(at..at, part);
        }
        4 => drop(input.splice(at..end, random.of(words).clone())),
        _ if input.len() < LONGEST => {
            let other = random.of(corpus);
            let from = random.below(other.len() + 1);
            let to = from + random.below((other.len() - from).min(256) + 1);
            input.splice(at..end, other[from..to].iter().copied());
        }
        _ => {}
    }
}

/// `SplitMix64`: enough for this, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
