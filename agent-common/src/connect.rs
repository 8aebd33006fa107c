//! What happens to a `connect()`.

use crate::{EgressMode, EventKind, Port, Standing, ip_protocol};

/// A `connect()` as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct ConnectQuestion {
    /// How the process stands.
    pub standing: Standing,
    /// `IPPROTO_*` of the socket.
    pub protocol: u32,
    /// Port asked for.
    pub port: Port,
    /// Whether the destination is protected: by the process's policy, or by any if it is pending.
    pub protected: bool,
    /// What the policy does with the rest; `None` if the policy is not in the map.
    pub egress: Option<EgressMode>,
}

/// What to do with a `connect()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectAnswer {
    /// Nothing.
    Pass,
    /// Nothing, but report it.
    PassReported,
    /// Rewrite the destination to the proxy. If no listener of the agent's is there: refuse.
    Redirect,
    /// Refuse, and report it.
    Refuse(EventKind),
}

/// Port of DNS (RFC 1035).
const DNS: Port = Port(53);

/// Decides a `connect()`.
///
/// A pending process is refused what any policy protects, for the moment until the agent has classified its
/// cgroup; everything else passes, since it is most likely not a workload at all.
#[inline(always)]
pub const fn on_connect(question: ConnectQuestion) -> ConnectAnswer {
    match question.standing {
        Standing::Pending if question.protected => ConnectAnswer::Refuse(EventKind::PendingRefused),
        Standing::Free | Standing::Pending => ConnectAnswer::Pass,
        Standing::Managed { .. } if question.protected => match question.protocol {
            ip_protocol::TCP => ConnectAnswer::Redirect,
            _ => ConnectAnswer::Refuse(EventKind::ProtocolRefused),
        },
        Standing::Managed { .. } => match question.egress {
            Some(EgressMode::Allow) => ConnectAnswer::Pass,
            Some(EgressMode::Observe) => ConnectAnswer::PassReported,
            Some(EgressMode::Deny) if is_dns(question.protocol, question.port) => ConnectAnswer::Pass,
            Some(EgressMode::Deny) | None => ConnectAnswer::Refuse(EventKind::EgressRefused),
        },
    }
}

/// Whether this is DNS over UDP, which `egress = "deny"` lets pass: without it no name of a service could be found.
#[inline(always)]
pub(crate) const fn is_dns(protocol: u32, port: Port) -> bool {
    protocol == ip_protocol::UDP && port.0 == DNS.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectAnswer::{Pass, PassReported, Redirect, Refuse};
    use EgressMode::{Allow, Deny, Observe};

    const MANAGED: Standing = Standing::Managed { policy: 1, cgroup: 2 };

    #[test]
    fn every_connect_has_its_answer() {
        let tcp = ip_protocol::TCP;
        let udp = ip_protocol::UDP;
        for (standing, protocol, port, protected, egress, expected) in [
            (Standing::Free, tcp, 5432, true, Some(Deny), Pass),
            (
                Standing::Pending,
                tcp,
                5432,
                true,
                None,
                Refuse(EventKind::PendingRefused),
            ),
            (
                Standing::Pending,
                udp,
                5432,
                true,
                None,
                Refuse(EventKind::PendingRefused),
            ),
            (Standing::Pending, tcp, 80, false, None, Pass),
            (MANAGED, tcp, 5432, true, Some(Allow), Redirect),
            (MANAGED, tcp, 5432, true, Some(Deny), Redirect),
            (MANAGED, tcp, 5432, true, None, Redirect),
            (
                MANAGED,
                udp,
                5432,
                true,
                Some(Allow),
                Refuse(EventKind::ProtocolRefused),
            ),
            (
                MANAGED,
                udp,
                53,
                true,
                Some(Allow),
                Refuse(EventKind::ProtocolRefused),
            ),
            (
                MANAGED,
                ip_protocol::MPTCP,
                5432,
                true,
                Some(Allow),
                Refuse(EventKind::ProtocolRefused),
            ),
            (MANAGED, tcp, 80, false, Some(Allow), Pass),
            (MANAGED, tcp, 80, false, Some(Observe), PassReported),
            (
                MANAGED,
                tcp,
                80,
                false,
                Some(Deny),
                Refuse(EventKind::EgressRefused),
            ),
            (MANAGED, tcp, 80, false, None, Refuse(EventKind::EgressRefused)),
            (MANAGED, udp, 53, false, Some(Deny), Pass),
            (
                MANAGED,
                tcp,
                53,
                false,
                Some(Deny),
                Refuse(EventKind::EgressRefused),
            ),
            (
                MANAGED,
                udp,
                443,
                false,
                Some(Deny),
                Refuse(EventKind::EgressRefused),
            ),
        ] {
            let question = ConnectQuestion {
                standing,
                protocol,
                port: Port(port),
                protected,
                egress,
            };
            assert_eq!(on_connect(question), expected, "{question:?}");
        }
    }
}
