//! What happens to a `connect()`, and to a datagram that names its destination itself.

use crate::{DNS_PORT, EgressMode, EventKind, Port, Standing, ip_protocol};

/// A `connect()`, or a datagram that is sent unconnected, as the decision sees it.
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
    /// What the policy does with the rest: the strictest policy if the process is pending; `None` if the policy is not
    /// in the map.
    pub egress: Option<EgressMode>,
    /// Whether DNS is steered through the agent: by the policy, or by any if the process is pending.
    pub steers_dns: bool,
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectAnswer {
    /// Nothing.
    Pass,
    /// Nothing, but report it.
    PassReported,
    /// Rewrite the destination to the proxy. If no listener of the agent's is there: refuse.
    Redirect,
    /// A datagram socket asks a nameserver: rewrite the destination to the slot of the agent's that stands for it. If no
    /// socket of the agent's is there: refuse.
    Steer,
    /// Refuse, and report it.
    Refuse(EventKind),
}

/// Decides a `connect()`, and in the same way a datagram that names its destination.
///
/// A pending process is refused what any policy protects or refuses, for the moment until the agent has classified its
/// cgroup. Its DNS goes through the agent, which has classified it by the time it reads the query: an address that it
/// learned past the agent would not be protected. Everything else passes, since it is most likely not a workload at all.
///
/// A service that stands on port 53 itself is a service first.
#[inline(always)]
pub const fn on_connect(question: ConnectQuestion) -> ConnectAnswer {
    match question.standing {
        Standing::Pending if question.protected => ConnectAnswer::Refuse(EventKind::PendingRefused),
        Standing::Free => ConnectAnswer::Pass,
        Standing::Pending if asks_dns(&question) => steer(question.protocol),
        Standing::Pending => match question.egress {
            Some(EgressMode::Allow | EgressMode::Observe) => ConnectAnswer::Pass,
            Some(EgressMode::Deny) | None => ConnectAnswer::Refuse(EventKind::PendingRefused),
        },
        Standing::Managed { .. } if question.protected => match question.protocol {
            ip_protocol::TCP => ConnectAnswer::Redirect,
            _ => ConnectAnswer::Refuse(EventKind::ProtocolRefused),
        },
        Standing::Managed { .. } if asks_dns(&question) => steer(question.protocol),
        Standing::Managed { .. } => match question.egress {
            Some(EgressMode::Allow) => ConnectAnswer::Pass,
            Some(EgressMode::Observe) => ConnectAnswer::PassReported,
            Some(EgressMode::Deny) | None => ConnectAnswer::Refuse(EventKind::EgressRefused),
        },
    }
}

#[inline(always)]
const fn asks_dns(question: &ConnectQuestion) -> bool {
    question.steers_dns && question.port.0 == DNS_PORT.0
}

#[inline(always)]
const fn steer(protocol: u32) -> ConnectAnswer {
    match protocol {
        ip_protocol::TCP => ConnectAnswer::Redirect,
        ip_protocol::UDP => ConnectAnswer::Steer,
        _ => ConnectAnswer::Refuse(EventKind::ProtocolRefused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectAnswer::{Pass, PassReported, Redirect, Refuse, Steer};
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
            (Standing::Pending, tcp, 80, false, Some(Allow), Pass),
            (Standing::Pending, tcp, 80, false, Some(Observe), Pass),
            (
                Standing::Pending,
                udp,
                53,
                false,
                Some(Deny),
                Refuse(EventKind::PendingRefused),
            ),
            (
                Standing::Pending,
                tcp,
                80,
                false,
                Some(Deny),
                Refuse(EventKind::PendingRefused),
            ),
            (
                Standing::Pending,
                tcp,
                80,
                false,
                None,
                Refuse(EventKind::PendingRefused),
            ),
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
            (
                MANAGED,
                udp,
                53,
                false,
                Some(Deny),
                Refuse(EventKind::EgressRefused),
            ),
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
                steers_dns: false,
            };
            assert_eq!(on_connect(question), expected, "{question:?}");
        }
    }

    #[test]
    fn dns_goes_to_the_agent_where_it_is_steered() {
        let tcp = ip_protocol::TCP;
        let udp = ip_protocol::UDP;
        for (standing, protocol, port, protected, egress, expected) in [
            (MANAGED, udp, 53, false, Some(Allow), Steer),
            (MANAGED, udp, 53, false, Some(Deny), Steer),
            (MANAGED, udp, 53, false, Some(Observe), Steer),
            (MANAGED, tcp, 53, false, Some(Allow), Redirect),
            (MANAGED, tcp, 53, false, Some(Deny), Redirect),
            (
                MANAGED,
                ip_protocol::UDP_LITE,
                53,
                false,
                Some(Allow),
                Refuse(EventKind::ProtocolRefused),
            ),
            // A service's own port 53.
            (MANAGED, tcp, 53, true, Some(Allow), Redirect),
            (
                MANAGED,
                udp,
                53,
                true,
                Some(Allow),
                Refuse(EventKind::ProtocolRefused),
            ),
            (MANAGED, udp, 853, false, Some(Allow), Pass),
            (Standing::Pending, udp, 53, false, None, Steer),
            (Standing::Pending, tcp, 53, false, None, Redirect),
            (Standing::Pending, udp, 5353, false, Some(Allow), Pass),
            (Standing::Free, udp, 53, false, Some(Deny), Pass),
        ] {
            let question = ConnectQuestion {
                standing,
                protocol,
                port: Port(port),
                protected,
                egress,
                steers_dns: true,
            };
            assert_eq!(on_connect(question), expected, "{question:?}");
        }
    }
}
