//! What workloads reach, or try to, around the services of their policies: the kernel side's list, with what the agent
//! could find out besides.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use crate::control::{EgressDestination, EgressListing, EgressProcess};
use crate::kernel::{Destination, DestinationKey, EventKind, Kernel, KernelError, KernelEvent};
use crate::model::{PolicyId, WorkloadName};

/// How often it is looked whether the kernel's list is full.
const LOOK: Duration = Duration::from_secs(10);

/// What the agent adds to the kernel side's list.
#[derive(Debug, Default)]
pub(super) struct Egress {
    /// Executable of the last process for each destination, looked up while the process was there. Not for more
    /// destinations than the kernel lists.
    executables: Mutex<HashMap<DestinationKey, Option<PathBuf>>>,
    forgotten: AtomicU64,
}

impl Egress {
    /// Notes who is behind an event. True: the destination is new since the agent started.
    pub(super) fn note(&self, event: &KernelEvent) -> bool {
        let (Some(policy), true) = (event.policy, is_listed(event.kind)) else {
            return true;
        };
        let key = DestinationKey {
            policy,
            kind: event.kind,
            address: event.address,
            protocol: event.protocol,
        };
        let executable = event
            .tgid
            .and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
        let mut executables = self.executables.lock();
        let known = executables.get(&key).is_some();
        if known || executables.len() < Kernel::MOST_DESTINATIONS {
            executables.insert(key, executable);
        }
        !known
    }

    /// The list, those last that were seen last.
    pub(super) fn list(
        &self,
        kernel: &Kernel,
        workloads: &BTreeMap<PolicyId, WorkloadName>,
        names: impl Fn(PolicyId, IpAddr) -> Vec<String>,
    ) -> Result<EgressListing, KernelError> {
        let clock = Clock::now();
        let mut found = kernel.destinations()?;
        found.sort_unstable_by_key(|destination| destination.last);
        let executables = self.executables.lock();
        let destinations = found
            .into_iter()
            // Those of policies that are gone stay in the kernel's list until it needs the room.
            .filter_map(|destination| Some((workloads.get(&destination.key.policy)?, destination)))
            .map(|(workload, destination)| EgressDestination {
                workload: workload.clone(),
                names: names(destination.key.policy, destination.key.address.ip()),
                address: destination.key.address.ip().to_canonical(),
                port: destination.key.address.port(),
                transport: transport(destination.key.protocol),
                guess: guess(destination.key.protocol, destination.key.address.port()).map(str::to_owned),
                verdict: verdict(destination.key.kind).to_owned(),
                count: destination.count,
                first_seen: clock.wall(destination.first),
                last_seen: clock.wall(destination.last),
                process: process(kernel, &destination, executables.get(&destination.key)),
            })
            .collect();
        Ok(EgressListing {
            destinations,
            unlisted: kernel.stats()?.unlisted,
            forgotten: self.forgotten.load(Ordering::Relaxed),
        })
    }

    /// Keeps room in the kernel's list for as long as the agent runs.
    pub(super) async fn keep_room(self: Arc<Self>, kernel: Arc<Kernel>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match kernel.make_room_for_destinations() {
                Ok(0) => {}
                Ok(forgotten) => {
                    self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
                    self.executables.lock().clear();
                    tracing::info!(
                        forgotten,
                        "the list of destinations was full; those seen last the longest time ago were forgotten"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "the list of destinations cannot be kept from filling up");
                }
            }
        }
    }
}

fn process(
    kernel: &Kernel,
    destination: &Destination,
    executable: Option<&Option<PathBuf>>,
) -> Option<EgressProcess> {
    Some(EgressProcess {
        pid: destination.tgid?,
        uid: destination.uid,
        command: destination.comm.clone(),
        executable: executable.cloned().flatten(),
        cgroup: kernel.cgroup2().path_of(destination.cgroup),
    })
}

fn is_listed(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::EgressObserved
            | EventKind::EgressRefused
            | EventKind::ProtocolRefused
            | EventKind::PacketDropped
    )
}

fn verdict(kind: EventKind) -> &'static str {
    match kind {
        EventKind::EgressObserved => "observed",
        EventKind::PacketDropped => "dropped",
        _ => "refused",
    }
}

fn transport(protocol: u32) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        33 => "dccp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        136 => "udplite".to_owned(),
        262 => "mptcp".to_owned(),
        other => other.to_string(),
    }
}

/// What is usually spoken there: by port alone, since the bytes are not the agent's to read.
fn guess(protocol: u32, port: u16) -> Option<&'static str> {
    const UDP: u32 = 17;
    let table: &[(u16, &str)] = if protocol == UDP {
        &[
            (53, "dns"),
            (67, "dhcp"),
            (123, "ntp"),
            (161, "snmp"),
            (443, "quic"),
            (514, "syslog"),
            (853, "dns over quic"),
            (4789, "vxlan"),
            (5353, "mdns"),
            (8125, "statsd"),
            (51820, "wireguard"),
        ]
    } else {
        &[
            (21, "ftp"),
            (22, "ssh"),
            (25, "smtp"),
            (53, "dns"),
            (80, "http"),
            (111, "nfs"),
            (389, "ldap"),
            (443, "https"),
            (445, "smb"),
            (465, "smtp"),
            (587, "smtp"),
            (636, "ldap"),
            (853, "dns over tls"),
            (1433, "mssql"),
            (1521, "oracle"),
            (2049, "nfs"),
            (2375, "docker"),
            (2376, "docker"),
            (2379, "etcd"),
            (3306, "mysql"),
            (3389, "rdp"),
            (4317, "otlp"),
            (5432, "postgres"),
            (5671, "amqp"),
            (5672, "amqp"),
            (6379, "redis"),
            (6443, "kubernetes"),
            (8080, "http"),
            (8200, "vault"),
            (8443, "https"),
            (9042, "cassandra"),
            (9092, "kafka"),
            (9200, "elasticsearch"),
            (9418, "git"),
            (11211, "memcached"),
            (27017, "mongodb"),
        ]
    };
    table
        .iter()
        .find(|(known, _)| *known == port)
        .map(|(_, name)| *name)
}

/// What the time since boot is on the wall.
struct Clock {
    wall: DateTime<Utc>,
    boot: Duration,
}

impl Clock {
    fn now() -> Self {
        Self {
            wall: Utc::now(),
            boot: Duration::from_nanos(super::existing::since_boot()),
        }
    }

    fn wall(&self, since_boot: Duration) -> DateTime<Utc> {
        let ago = self.boot.saturating_sub(since_boot);
        self.wall - TimeDelta::from_std(ago).unwrap_or(TimeDelta::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::guess;

    #[test]
    fn protocols_are_guessed_by_transport_and_port() {
        for (protocol, port, expected) in [
            (6, 443, Some("https")),
            (17, 443, Some("quic")),
            (6, 5432, Some("postgres")),
            (17, 5432, None),
            (6, 40_000, None),
            (1, 0, None),
        ] {
            assert_eq!(guess(protocol, port), expected, "{protocol} {port}");
        }
    }
}
