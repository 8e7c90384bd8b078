//! Replay of known inputs: our seeds, and other corpora if they are present.

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

#[test]
fn every_seed_is_accepted() {
    let mut inputs = 0;
    for (name, target) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        for seed in
            fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        {
            target(&fs::read(seed.unwrap().path()).unwrap());
            inputs += 1;
        }
    }
    println!("{inputs} seeds");
    assert!(inputs > 100, "{inputs} seeds");
}

/// Feeds every line of the corpus, octets in hexadecimal form, to every target.
#[test]
fn every_input_of_the_corpus_is_accepted() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let corpus = std::env::var_os("CORPUS").map_or(default, PathBuf::from).join("fuzz");
    let mut inputs = 0;
    for file in fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            let octets = hex(line);
            for (_, target) in TARGETS {
                for options in [0, 1, 5, 0x13] {
                    target(&[&[options][..], &octets].concat());
                }
                // As the body of any message.
                target(octets.get(19..).unwrap_or_default());
            }
            inputs += 1;
        }
    }
    println!("{inputs} inputs");
    assert!(inputs > 0, "{} is empty", corpus.display());
}

fn hex(line: &str) -> Vec<u8> {
    let digits: Vec<u8> = line.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
