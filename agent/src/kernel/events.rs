//! What the kernel side reports, as it happens. For people and for the listener of the flow stage; not for audit:
//! events are lost when nobody reads.

use std::net::{IpAddr, SocketAddr};

use agent_common::{Event, EventKind};
use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use super::KernelError;
use crate::model::{CgroupId, NetnsCookie, PolicyId};

/// One event.
#[derive(Clone, Debug)]
pub struct KernelEvent {
    /// What happened.
    pub kind: EventKind,
    /// Under which policy, if any.
    pub policy: Option<PolicyId>,
    /// Cgroup of the process, or of the socket for packets.
    pub cgroup: CgroupId,
    /// Network namespace; `None` for packets.
    pub netns: Option<NetnsCookie>,
    /// Process; `None` for packets, which may leave in anybody's context.
    pub tgid: Option<u32>,
    /// Thread of the process, which may be in another network namespace than its leader; `None` for packets.
    pub tid: Option<u32>,
    /// User; without meaning for packets.
    pub uid: u32,
    /// Destination, or what was to be bound.
    pub address: SocketAddr,
    /// `IPPROTO_*`.
    pub protocol: u32,
    /// Name of the thread, other than printable ASCII escaped. For people only.
    pub comm: String,
}

/// The stream of events. One reader.
#[derive(Debug)]
pub struct EventStream {
    ring: AsyncFd<Ring>,
}

/// The ring buffer, with a `Debug`.
struct Ring(RingBuf<MapData>);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl std::os::fd::AsRawFd for Ring {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl EventStream {
    pub(super) fn new(ring: RingBuf<MapData>) -> Result<Self, KernelError> {
        #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
        // SAFETY: the ring owns its descriptor, always gives the same one, and closes it only when it is dropped.
        let ring = unsafe { AsyncFd::register_with_interest(Ring(ring), tokio::io::Interest::READABLE) }
            .map_err(|error| KernelError::system("polling the event ring")(error.into()))?;
        Ok(Self { ring })
    }

    /// The next event. Safe to cancel. Fails only if the ring cannot be polled any more.
    pub async fn next(&mut self) -> Result<KernelEvent, KernelError> {
        loop {
            let mut ready = self
                .ring
                .readable_mut()
                .await
                .map_err(KernelError::system("polling the event ring"))?;
            while let Some(item) = ready.get_inner_mut().0.next() {
                if let Some(event) = Event::from_bytes(&item).and_then(|event| decode(&event)) {
                    return Ok(event);
                }
            }
            ready.clear_ready();
        }
    }
}

/// A thread's name as text; other than printable ASCII is escaped, for it is the workload's.
pub(super) fn thread_name(comm: &[u8; 16]) -> String {
    let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
    name.escape_ascii().to_string()
}

/// `None`: an event of another build's kind.
fn decode(event: &Event) -> Option<KernelEvent> {
    let ip = IpAddr::from(event.ip);
    let port = u16::try_from(event.port.0).ok()?;
    Some(KernelEvent {
        kind: EventKind::from_number(event.kind)?,
        policy: (event.policy != 0).then_some(PolicyId(event.policy)),
        cgroup: CgroupId(event.cgroup),
        netns: (event.netns != 0).then_some(NetnsCookie(event.netns)),
        tgid: (event.tgid != 0).then_some(event.tgid),
        tid: (event.tid != 0).then_some(event.tid),
        uid: event.uid,
        address: SocketAddr::new(ip, port),
        protocol: event.protocol,
        comm: thread_name(&event.comm),
    })
}
