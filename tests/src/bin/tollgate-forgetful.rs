//! A process that had a secret, for the search of memory: it keeps it, gives its memory back as it is, or wipes it first.
//!
//! `tollgate-forgetful keep|free|wipe`: reads one line, the secret with each byte one too high, so that what comes in is not what
//! is searched for; says `ready`, and waits for the end of its input.

use std::hint::black_box;
use std::io::{BufRead, Write};

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line).expect("a line");
    let mut secret: Vec<u8> = line.trim_end().bytes().map(|byte| byte - 1).collect();
    black_box(&mut secret);
    let kept = match how.as_str() {
        "keep" => Some(secret),
        "free" => None,
        "wipe" => {
            secret.fill(0);
            black_box(&mut secret);
            None
        }
        other => panic!("{other:?} is none of keep, free and wipe"),
    };
    println!("ready");
    std::io::stdout().flush().expect("somebody listens");
    line.clear();
    input.read_line(&mut line).expect("an end");
    drop(black_box(kept));
}
