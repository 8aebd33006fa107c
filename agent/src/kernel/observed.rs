//! The list of what workloads reach, or try to, around the services of their policies. It is kept in the kernel, in a
//! pinned map, so it survives the agent.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent_common::{EventKind, MAX_OBSERVED, Observed, ObservedKey};
use aya::maps::MapError;

use super::events::thread_name;
use super::maps::ignore_missing;
use super::{Kernel, KernelError};
use crate::model::{CgroupId, PolicyId};

/// A destination, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DestinationKey {
    /// Whose.
    pub policy: PolicyId,
    /// What became of it.
    pub kind: EventKind,
    /// Where.
    pub address: SocketAddr,
    /// `IPPROTO_*`.
    pub protocol: u32,
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Which.
    pub key: DestinationKey,
    /// How often, as exactly as two processors at a time count.
    pub count: u64,
    /// Time since boot, sleep included, of the first time.
    pub first: Duration,
    /// Time since boot of the last time.
    pub last: Duration,
    /// Cgroup of the last process, or of the last packet's socket.
    pub cgroup: CgroupId,
    /// The last process; `None` for packets, which may leave in anybody's context.
    pub tgid: Option<u32>,
    /// Its user; without meaning for packets.
    pub uid: u32,
    /// Name of its thread, other than printable ASCII escaped.
    pub comm: String,
}

impl Kernel {
    /// Destinations that the list can have.
    pub const MOST_DESTINATIONS: usize = MAX_OBSERVED as usize;

    /// Every destination in the list, in no order.
    pub fn destinations(&self) -> Result<Vec<Destination>, KernelError> {
        let maps = self.maps.lock();
        let mut found = Vec::new();
        for entry in &maps.observed {
            match entry {
                Ok((key, observed)) => found.extend(decode(&key, &observed)),
                // Removed while it was read.
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(KernelError::map("OBSERVED", "a listing")(error)),
            }
        }
        Ok(found)
    }

    /// Forgets the entries that were seen last the longest time ago, once the list is three quarters full: down to half.
    /// How many were forgotten.
    pub fn make_room_for_destinations(&self) -> Result<usize, KernelError> {
        let room = Self::MOST_DESTINATIONS;
        let mut maps = self.maps.lock();
        let mut all: Vec<(u64, ObservedKey)> = Vec::new();
        for (key, observed) in maps.observed.iter().flatten() {
            all.push((observed.last, key));
        }
        if all.len() <= room / 4 * 3 {
            return Ok(0);
        }
        all.sort_unstable_by_key(|(last, _)| *last);
        all.truncate(all.len() - room / 2);
        for (_, key) in &all {
            ignore_missing(maps.observed.remove(key)).map_err(KernelError::map("OBSERVED", "a removal"))?;
        }
        Ok(all.len())
    }
}

/// `None`: an entry of a kind that this build does not know.
fn decode(key: &ObservedKey, observed: &Observed) -> Option<Destination> {
    let port = u16::try_from(key.port.0).ok()?;
    Some(Destination {
        key: DestinationKey {
            policy: PolicyId(key.policy),
            kind: EventKind::from_number(key.kind)?,
            address: SocketAddr::new(IpAddr::from(key.ip), port),
            protocol: key.protocol,
        },
        count: observed.count,
        first: Duration::from_nanos(observed.first),
        last: Duration::from_nanos(observed.last),
        cgroup: CgroupId(observed.cgroup),
        tgid: (observed.tgid != 0).then_some(observed.tgid),
        uid: observed.uid,
        comm: thread_name(&observed.comm),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use agent_common::{Ip128, Port, ip_protocol};

    use super::super::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
    use super::*;
    use crate::config::Egress;

    #[tokio::test]
    async fn what_is_reached_and_what_is_refused_is_listed_with_who_and_how_often() {
        if !privileged() {
            return;
        }
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let bench = Bench::new();
        let cgroup = TestCgroup::new();
        let mut workload = Workload::inside(&cgroup);
        bench.manage(&cgroup, Egress::Allow, &[]);
        assert_eq!(workload.connect("a", address), "None");
        assert_eq!(
            bench.kernel.destinations().unwrap(),
            [],
            "egress = \"allow\" is not looked at"
        );

        bench.manage(&cgroup, Egress::Observe, &[]);
        for name in ["b", "c", "d"] {
            assert_eq!(workload.connect(name, address), "None");
        }
        bench.manage(&cgroup, Egress::Deny, &[]);
        assert_eq!(workload.connect("e", address), "EPERM");
        let mut found = bench.kernel.destinations().unwrap();
        found.sort_unstable_by_key(|destination| destination.count);
        let [refused, observed] = found.as_slice() else {
            panic!("{found:?}")
        };
        let key = |kind| DestinationKey {
            policy: POLICY,
            kind,
            address,
            protocol: ip_protocol::TCP,
        };
        assert_eq!(
            (observed.key, observed.count),
            (key(EventKind::EgressObserved), 3)
        );
        assert_eq!((refused.key, refused.count), (key(EventKind::EgressRefused), 1));
        assert!(observed.first < observed.last && observed.last < refused.first);
        assert_eq!(observed.tgid, Some(workload.pid()));
        assert_eq!(
            (observed.cgroup, observed.comm.as_str()),
            (cgroup.id(), "python3")
        );
        drop(workload);
    }

    #[tokio::test]
    async fn a_list_that_fills_up_forgets_the_oldest_and_says_how_many() {
        if !privileged() {
            return;
        }
        let bench = Bench::new();
        let key = |number: u32| ObservedKey {
            policy: POLICY.0,
            kind: EventKind::EgressObserved as u32,
            ip: Ip128::LOOPBACK_V4,
            port: Port(number),
            protocol: 6,
        };
        let full = MAX_OBSERVED / 4 * 3 + 1;
        for number in 0..full {
            let observed = Observed {
                count: 1,
                first: 1,
                last: u64::from(number),
                cgroup: 0,
                tgid: 0,
                uid: 0,
                comm: [0; 16],
            };
            bench
                .kernel
                .maps
                .lock()
                .observed
                .insert(key(number), observed, 0)
                .unwrap();
        }
        let forgotten = bench.kernel.make_room_for_destinations().unwrap();
        assert_eq!(forgotten, usize::try_from(full - MAX_OBSERVED / 2).unwrap());
        let left = bench.kernel.destinations().unwrap();
        assert_eq!(left.len(), usize::try_from(MAX_OBSERVED / 2).unwrap());
        assert!(
            left.iter()
                .all(|destination| destination.last
                    >= Duration::from_nanos(u64::from(full - MAX_OBSERVED / 2)))
        );
        assert_eq!(bench.kernel.make_room_for_destinations().unwrap(), 0);
    }
}
