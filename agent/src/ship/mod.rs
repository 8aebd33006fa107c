//! Sealed segments to object storage.
