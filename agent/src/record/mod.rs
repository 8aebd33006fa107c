//! Frames, hash chain, signatures; reader and verifier.
