//! Both sides of a connection inside TLS: the target first, verified, and only then the client.
//!
//! So a client never completes a handshake for a target that is not there or not who it should be, and gets the protocol that
//! the target chose. The credential is nobody's business here: the target is verified before anything else is said to it.

use std::future::Future;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::flow::Stream;

use super::upstream::Offer;
use super::{
    Alert, ClientFault, ClientIdentity, Hello, LeafNames, LocalCa, TargetTls, TerminateError, TlsError,
    Upstream, WorkloadTls,
};

/// On which terms a connection is intercepted.
#[derive(Debug)]
pub struct Terms<'a> {
    /// Makes the certificate that the client sees.
    pub authority: &'a LocalCa,
    /// How the target is spoken to.
    pub upstream: &'a Upstream,
    /// Who the target has to prove to be: [`Upstream::asked`].
    pub server: ServerName<'static>,
    /// For whom the client's certificate is: [`LeafNames::asked`].
    pub names: LeafNames,
    /// Protocols that are spoken, by their names in ALPN. Those that the client offers besides are not offered to the target.
    pub spoken: &'a [&'a [u8]],
    /// What the agent shows to a target that asks for a certificate.
    pub identity: Option<&'a ClientIdentity>,
}

/// A connection with TLS terminated on both sides.
#[derive(Debug)]
pub struct Intercepted<S = Stream> {
    /// The workload.
    pub client: WorkloadTls<S>,
    /// The target.
    pub target: TargetTls<S>,
    /// The protocol that the target chose, the same on both sides; `None`: it does not know ALPN, or the client does not.
    pub alpn: Option<Vec<u8>>,
    /// The server that the client asked for.
    pub name: Option<String>,
    /// Whether the target asked for a certificate and got none. TLS 1.3 tells only later whether it insists; its alert is
    /// what the first read gives then, and [`TlsError::of_target`] puts it into words.
    pub without_certificate: bool,
}

/// Why a connection was not intercepted.
#[derive(Debug)]
pub struct NotIntercepted<E, S = Stream> {
    /// Why.
    pub why: Why<E>,
    /// The client, where it has not been answered yet: it can be terminated to be told in its own protocol, or refused by
    /// [`Why::alert`]. `None`: it knows.
    pub hello: Option<Box<Hello<S>>>,
}

/// Whose fault it is that a connection was not intercepted.
#[derive(Debug, thiserror::Error)]
pub enum Why<E> {
    /// The target was not reached; what whoever dials says.
    #[error("the target cannot be reached")]
    Dial(E),
    /// There is no TLS with the target, or it is not who it should be.
    #[error(transparent)]
    Target(TlsError),
    /// The client speaks nothing that is spoken here.
    #[error(
        "the client offers only protocols that are not understood ({offered}): make the service protocol = \
         \"opaque\", so that its bytes are recorded and passed without being understood"
    )]
    NoProtocol {
        /// What it offers, for people.
        offered: String,
    },
    /// The client's fault, or its distrust.
    #[error(transparent)]
    Client(ClientFault),
    /// The agent's fault.
    #[error(transparent)]
    Agent(TlsError),
}

impl<E> Why<E> {
    /// What the client is told where it can be told only in TLS.
    pub fn alert(&self) -> Alert {
        match self {
            Self::NoProtocol { .. } => Alert::NoProtocol,
            Self::Dial(_) | Self::Target(_) | Self::Client(_) | Self::Agent(_) => Alert::Failed,
        }
    }
}

/// Dials by `dial`, agrees on TLS with the target, and then with the client.
///
/// # Errors
/// Any of these fails: see [`Why`].
pub async fn intercept<S, E>(
    hello: Box<Hello<S>>,
    terms: Terms<'_>,
    dial: impl Future<Output = Result<S, E>>,
) -> Result<Intercepted<S>, NotIntercepted<E, S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let waiting = |why, hello| NotIntercepted {
        why,
        hello: Some(hello),
    };
    if hello.offers_nothing_of(terms.spoken) {
        let offered = protocols_for_people(&hello.facts().alpn);
        return Err(waiting(Why::NoProtocol { offered }, hello));
    }
    let offer = Offer {
        alpn: hello.common_protocols(terms.spoken),
        identity: terms.identity,
    };
    let stream = match dial.await {
        Ok(stream) => stream,
        Err(error) => return Err(waiting(Why::Dial(error), hello)),
    };
    let target = match terms.upstream.connect_offering(terms.server, offer, stream).await {
        Ok(target) => target,
        Err(error) if error.is_ours() => return Err(waiting(Why::Agent(error), hello)),
        Err(error) => return Err(waiting(Why::Target(error), hello)),
    };
    let alpn = target.stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let name = hello.name().map(str::to_owned);
    let client = hello
        .terminate(terms.authority, &terms.names, alpn.as_deref())
        .await
        .map_err(|error| NotIntercepted {
            why: match error {
                TerminateError::Certificate(error) => Why::Agent(error),
                TerminateError::Client(fault) => Why::Client(fault),
            },
            hello: None,
        })?;
    Ok(Intercepted {
        client,
        target: target.stream,
        alpn,
        name,
        without_certificate: target.without_certificate,
    })
}

/// The client may write anything there, so it is quoted and cut.
fn protocols_for_people(protocols: &[Vec<u8>]) -> String {
    const MOST: usize = 8;
    let mut names: Vec<String> = protocols
        .iter()
        .take(MOST)
        .map(|name| name.escape_ascii().take(32).map(char::from).collect())
        .collect();
    if protocols.len() > MOST {
        names.push("…".to_owned());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests;
