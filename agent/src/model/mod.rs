//! The words that every stage speaks: ids, effects, commands, columns, frames, secrets.
//!
//! Plain values without behaviour of their own stage. Everybody may import this module; it imports nobody.

mod column;
mod command;
mod container;
mod effect;
mod frame;
mod http;
mod ids;
mod material;
mod place;
mod secret;
mod socket_path;

pub use column::{ColumnName, ValueFormat, ValueType};
pub use command::{Action, Command, Object, ObjectKind, Parameter, Schema};
pub use container::{Container, ContainerEngine};
pub use effect::{Effect, Effects};
pub use frame::{Direction, FrameKind};
pub use http::{
    GraphqlKind, GraphqlOperation, GrpcCall, HttpAsks, HttpBody, HttpContent, HttpDoubt, HttpFacts, HttpPair,
    HttpPart, method_effects,
};
pub use ids::{
    CgroupId, CgroupPath, ClientAddr, HoldId, NetnsCookie, OriginalDst, PolicyId, RuleName, ServiceName,
    SessionId, WorkloadName,
};
pub use material::{AwsKeys, Material};
pub use place::{Caller, Place};
pub use secret::Secret;
pub use socket_path::SocketPath;
