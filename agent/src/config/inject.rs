//! `inject` and `placeholder` of `[service.credential]`: how a credential goes into requests, as typed values.

use super::glob::Glob;

/// How a credential goes into the requests of a service of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCredential {
    /// `inject`; if left out, what the source's credential is for.
    pub inject: Inject,
    /// `placeholder`.
    pub placeholder: Option<Placeholder>,
}

/// `inject`: where a credential goes in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inject {
    /// `{ header = "X-Api-Key" }`, `"bearer"`: a header.
    Header {
        /// Its name, in lower case.
        name: String,
        /// `scheme`: a word that stands before the secret.
        scheme: Option<String>,
    },
    /// `{ query = "key" }`: a parameter of the query.
    Query {
        /// Its name, not encoded.
        name: String,
    },
    /// `{ cookie = "session" }`: a cookie.
    Cookie {
        /// Its name.
        name: String,
    },
    /// `"basic"`, `{ basic = "x-access-token" }`: user and password (RFC 7617).
    Basic {
        /// The user whose password a token is; `None`: the source gives a user.
        user: Option<String>,
    },
    /// `"sigv4"`, `{ sigv4 = "s3" }`: a signature of AWS (Signature Version 4).
    SigV4 {
        /// The service that is signed for; `None`: from the host, else as the client signed.
        service: Option<String>,
        /// `region`; `None`: from the host, else as the client signed, else the source's.
        region: Option<String>,
    },
    /// `"tls"`: a certificate of the client's, in the TLS handshake.
    Tls,
    /// `"placeholder"`: where the placeholder is in a body, and nowhere else.
    Placeholder,
}

/// `placeholder`: a worthless text that tools of the workload have in place of the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// `text`.
    pub text: String,
    /// `bodies`: paths of requests in whose bodies it is replaced; empty: in none.
    pub bodies: Vec<Glob>,
}

impl Inject {
    /// As policies write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Header { .. } => "header",
            Self::Query { .. } => "query",
            Self::Cookie { .. } => "cookie",
            Self::Basic { .. } => "basic",
            Self::SigV4 { .. } => "sigv4",
            Self::Tls => "tls",
            Self::Placeholder => "placeholder",
        }
    }
}

impl HttpCredential {
    /// Whether the placeholder is looked for in the body of a request to `path`.
    pub fn replaces_in_body(&self, path: &str) -> bool {
        self.placeholder
            .as_ref()
            .is_some_and(|placeholder| placeholder.bodies.iter().any(|glob| glob.matches(path)))
    }
}
