//! Kinds of what a record holds.

use serde::{Deserialize, Serialize};

/// Kind of a frame of a record. The numbers are part of the record format and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FrameKind {
    /// First frame of a session: JSON with identity, service, policy.
    Open = 1,
    /// Bytes from the client, as it sent them (secrets replaced).
    ClientBytes = 2,
    /// Bytes to the client, as it sees them (masked).
    ServerBytes = 3,
    /// JSON: a decoded command with effects and objects.
    Command = 4,
    /// JSON: the verdict on a command, with the rules that made it.
    Verdict = 5,
    /// JSON: a hold, and its decision.
    Approval = 6,
    /// JSON: what was masked and how often; never a value.
    Mask = 7,
    /// JSON: a lease was taken, renewed or revoked; never a secret.
    Lease = 8,
    /// JSON: an error of the session, with whose fault it was.
    Error = 9,
    /// JSON: something that could not be recorded (observe mode), or a pause.
    Gap = 10,
    /// Last frame of a session: JSON with why it ended, and counts.
    Close = 11,
    /// JSON: the session goes on under a newer token, or may not go on.
    Identity = 12,
    /// JSON: the workload has a secret of its own; never the secret.
    Finding = 13,
}

impl FrameKind {
    /// The kind of number `number`.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Open,
            2 => Self::ClientBytes,
            3 => Self::ServerBytes,
            4 => Self::Command,
            5 => Self::Verdict,
            6 => Self::Approval,
            7 => Self::Mask,
            8 => Self::Lease,
            9 => Self::Error,
            10 => Self::Gap,
            11 => Self::Close,
            12 => Self::Identity,
            13 => Self::Finding,
            _ => return None,
        })
    }
}

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the workload to the target.
    ToServer,
    /// From the target to the workload.
    ToClient,
}
