//! Replay: the frames of a record, turned into steps that a person or a program can follow.
//!
//! [`Player`] takes frames and gives [`Step`]s; [`Screen`] writes steps for people, [`json_line`] for programs. Reads
//! records only: it judges nothing and verifies nothing (`tollgate verify` does). Known limits: the bytes of protocols
//! other than PostgreSQL and HTTP are shown as bytes; of a message longer than 1 MiB the beginning is shown.

mod clean;
pub mod http;
mod pace;
mod player;
mod postgres;
mod screen;
mod step;
mod table;

#[cfg(test)]
mod tests;

pub use pace::Speed;
pub use player::{Limits, Player};
pub use screen::Screen;
pub use step::{Column, CopyData, End, Event, QueryResult, ServerMessage, Step, json_line};
