//! Frames, hash chain, signatures; reader and verifier.

pub mod meta;
