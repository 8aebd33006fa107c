//! DNS of workloads: the agent asks in their place and reads the answer first, so that the address of a protected name
//! is protected before the workload has it.
//!
//! A query is judged ([`Terms`]), asked from the workload's own network namespace at the nameserver that the workload
//! asked, and its answer read ([`read`]): addresses of protected names are protected, hints that lead around the proxy are
//! taken out, and everything else passes as it came. Reading, judging and remembering do no input or output and hold no
//! clock; [`Dns`] does the rest.
//!
//! Limits: names in a workload's own hosts file are not seen, nor is DNS over TLS or HTTPS, which passes where the
//! egress mode lets it; the agent's own resolver knows what the host's files say. Zone transfers are refused. A link-local
//! nameserver (`fe80::…`) cannot be asked, since the kernel side does not see on which interface it is.

mod answer;
mod ask;
mod judge;
mod learned;
mod name;
mod question;
mod resolv_conf;
mod service;
mod throttle;
mod told;
mod views;

pub use answer::{Alias, Answer, NoAnswer, Told, read};
pub use judge::{Refusal, Terms, Views};
pub use learned::{Learned, MOST_ADDRESSES, SavedName, TooMany};
pub use name::DnsName;
pub use question::{Asked, Question, Unreadable};
pub use resolv_conf::ResolvConf;
pub use service::{Dns, NotProtected, Workloads};
pub use told::Names;

#[cfg(test)]
mod tests;
