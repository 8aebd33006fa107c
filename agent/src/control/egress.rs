//! What `tollgate egress` shows.

use std::net::IpAddr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{CgroupPath, WorkloadName};

/// What workloads reached, or tried to, around the services of their policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressListing {
    /// Destinations, those last that were seen last.
    pub destinations: Vec<EgressDestination>,
    /// How often something was not listed because the list was full.
    pub unlisted: u64,
    /// Destinations that were forgotten since the agent started, to make room for others.
    pub forgotten: u64,
}

/// One destination of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressDestination {
    /// Workload.
    pub workload: WorkloadName,
    /// Names under which it is known; empty where none is.
    pub names: Vec<String>,
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 where the transport has none.
    pub port: u16,
    /// `tcp`, `udp` …, or the protocol's number.
    pub transport: String,
    /// What is usually spoken on such a port. A guess: nothing was read.
    pub guess: Option<String>,
    /// `observed`: it passed. `refused`: the connect or datagram was. `dropped`: a packet was.
    pub verdict: String,
    /// How often: connects, and for datagrams first ones of a socket.
    pub count: u64,
    /// When first.
    pub first_seen: DateTime<Utc>,
    /// When last.
    pub last_seen: DateTime<Utc>,
    /// Who did it last; `None` for packets.
    pub process: Option<EgressProcess>,
}

/// A process that reached a destination, or tried to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressProcess {
    /// Its pid.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Name of its thread, as the workload chose it.
    pub command: String,
    /// Its executable; `None` where it had ended before that could be looked up.
    pub executable: Option<PathBuf>,
    /// Its cgroup; `None` if it is gone.
    pub cgroup: Option<CgroupPath>,
}
