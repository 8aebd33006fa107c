//! Connections and queries that the kernel side sent to the agent: who they are from, and which never came.

use std::net::SocketAddr;
use std::time::Duration;

use agent_common::{FlowRecord, Ip128, Port, TupleKey, UnixFlowRecord};
use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};

use super::maps::ignore_missing;
use super::{FlowOrigin, Kernel, KernelError};
use crate::model::NetnsCookie;

impl Kernel {
    /// Takes what is known of an accepted connection; `None`: it was not redirected, and has to be closed.
    ///
    /// `peer` and `local` are the accepted socket's own names, `netns` the cookie of the listener's namespace.
    pub fn take_flow(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
        netns: NetnsCookie,
    ) -> Result<Option<FlowOrigin>, KernelError> {
        take(&mut self.maps.lock().tuples, peer, local, netns)
    }

    /// What is known of a datagram that came to one of the ports for DNS: who asks, and as the original destination the
    /// nameserver. `None`: it was not steered there, and has to be dropped.
    ///
    /// The entry stays, since one socket may have several queries on the way.
    pub fn query_origin(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
        netns: NetnsCookie,
    ) -> Result<Option<FlowOrigin>, KernelError> {
        match self.maps.lock().queries.get(&tuple(peer, local, netns), 0) {
            Ok(record) => Ok(Some(FlowOrigin::from(&record))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map("QUERIES", "a look-up")(error)),
        }
    }

    /// Removes records of connections, to unix sockets too, that nobody has accepted for `age`: there is no other trace of
    /// them. Gives their number.
    pub fn sweep_flows(&self, age: Duration) -> Result<usize, KernelError> {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .map_err(|errno| KernelError::system("clock_gettime")(errno.into()))?;
        let horizon = Duration::from(now).saturating_sub(age);
        let mut maps = self.maps.lock();
        let tuples = sweep(&mut maps.tuples, "TUPLES", horizon, |record: &FlowRecord| {
            record.boottime
        })?;
        let unix = sweep(
            &mut maps.unix_flows,
            "UNIX_FLOWS",
            horizon,
            |record: &UnixFlowRecord| record.boottime,
        )?;
        Ok(tuples + unix)
    }
}

/// Takes what `tuples` has of an accepted connection.
pub(super) fn take(
    tuples: &mut HashMap<MapData, TupleKey, FlowRecord>,
    peer: SocketAddr,
    local: SocketAddr,
    netns: NetnsCookie,
) -> Result<Option<FlowOrigin>, KernelError> {
    let key = tuple(peer, local, netns);
    let record = match tuples.get(&key, 0) {
        Ok(record) => record,
        Err(MapError::KeyNotFound) => return Ok(None),
        Err(error) => return Err(KernelError::map("TUPLES", "a look-up")(error)),
    };
    ignore_missing(tuples.remove(&key)).map_err(KernelError::map("TUPLES", "a removal"))?;
    Ok(Some(FlowOrigin::from(&record)))
}

/// Removes what is from before `horizon`, by the time since boot in ns that `boottime` gives.
fn sweep<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    name: &'static str,
    horizon: Duration,
    boottime: impl Fn(&V) -> u64,
) -> Result<usize, KernelError> {
    let old: Vec<K> = map
        .iter()
        .filter_map(Result::ok)
        .filter(|(_, record)| Duration::from_nanos(boottime(record)) < horizon)
        .map(|(key, _)| key)
        .collect();
    for key in &old {
        ignore_missing(map.remove(key)).map_err(KernelError::map(name, "a removal"))?;
    }
    Ok(old.len())
}

fn tuple(peer: SocketAddr, local: SocketAddr, netns: NetnsCookie) -> TupleKey {
    TupleKey {
        netns: netns.0,
        source: Ip128::from(peer.ip()),
        destination: Ip128::from(local.ip()),
        source_port: Port(u32::from(peer.port())),
        destination_port: Port(u32::from(local.port())),
    }
}
