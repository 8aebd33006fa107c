//! Sessions over loopback, with stages that record into memory.

mod double;
mod exchanges;
mod guarding;
