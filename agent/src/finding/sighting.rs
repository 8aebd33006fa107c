//! A secret that was met: what it is, where, whose.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::identity::{Identity, ProcessState};
use crate::model::{CgroupPath, Secret, ServiceName, SessionId, WorkloadName};

/// Longest text of a finding that others choose, in bytes; what is longer is cut.
const LONGEST: usize = 256;

/// Kind of a secret, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretKind {
    /// A password.
    Password,
    /// A salted proof: the client has a password of its own, which was not seen.
    PasswordProof,
    /// A token: of a CI system, a forge, a chat; a JSON Web Token.
    Token,
    /// A private key.
    PrivateKey,
    /// An access key of AWS, or its secret.
    AwsAccessKey,
    /// Something that its place calls a secret.
    Other,
}

/// Where a secret was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenAt {
    /// In the login that a client sent.
    Login {
        /// As whom it logged in.
        user: String,
    },
    /// In a header of a request.
    Header {
        /// Its name, in lower case.
        name: String,
    },
    /// In a parameter of a request's query.
    Query {
        /// Its name, in lower case.
        name: String,
    },
    /// In a cookie.
    Cookie {
        /// Its name, in lower case.
        name: String,
    },
    /// In the URL of a request, before its host.
    Url,
    /// In the environment of a process.
    Variable {
        /// Name of the variable.
        name: String,
    },
    /// On the command line of a process.
    Argument {
        /// Number of the argument; 0 is the program's name.
        number: usize,
    },
}

/// A secret that was met. It lives until it is noted.
#[derive(Debug)]
pub struct Sighting {
    /// What it is.
    pub kind: SecretKind,
    /// Where it was.
    pub at: SeenAt,
    /// The secret itself, or the proof.
    pub secret: Secret,
}

/// Who had a secret: the session in which it was met, and whoever opened it; or a process.
#[derive(Clone, Debug)]
pub struct Witness {
    /// The workload.
    pub workload: WorkloadName,
    /// The service of the session; `None`: the process was looked at without one.
    pub service: Option<ServiceName>,
    /// What it speaks, as policies name it.
    pub protocol: &'static str,
    /// The session.
    pub session: Option<SessionId>,
    /// Its cgroup.
    pub cgroup: CgroupPath,
    /// Who it is, whatever process it runs as.
    pub identity: String,
    /// The program, where it is known.
    pub executable: Option<String>,
    /// Its user.
    pub uid: u32,
}

/// What a client is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its password.
    Password,
    /// A proof, with this salt.
    Proof {
        /// The salt.
        salt: [u8; 4],
    },
}

impl SecretKind {
    /// As it stands in listings and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::PasswordProof => "password-proof",
            Self::Token => "token",
            Self::PrivateKey => "private-key",
            Self::AwsAccessKey => "aws-access-key",
            Self::Other => "other",
        }
    }
}

impl SeenAt {
    /// Whether it was seen at the service, and not in a process whatever that speaks to.
    pub fn is_of_service(&self) -> bool {
        match self {
            Self::Login { .. }
            | Self::Header { .. }
            | Self::Query { .. }
            | Self::Cookie { .. }
            | Self::Url => true,
            Self::Variable { .. } | Self::Argument { .. } => false,
        }
    }

    /// The same, with texts that are no longer than they need to be.
    #[must_use]
    pub(super) fn cut(&self) -> Self {
        match self {
            Self::Login { user } => Self::Login { user: cut(user) },
            Self::Header { name } => Self::Header { name: cut(name) },
            Self::Query { name } => Self::Query { name: cut(name) },
            Self::Cookie { name } => Self::Cookie { name: cut(name) },
            Self::Url => Self::Url,
            Self::Variable { name } => Self::Variable { name: cut(name) },
            Self::Argument { number } => Self::Argument { number: *number },
        }
    }
}

impl fmt::Display for SeenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Login { user } => write!(f, "login as {user}"),
            Self::Header { name } => write!(f, "header {name}"),
            Self::Query { name } => write!(f, "parameter {name}"),
            Self::Cookie { name } => write!(f, "cookie {name}"),
            Self::Url => f.write_str("login in the URL"),
            Self::Variable { name } => write!(f, "variable {name}"),
            Self::Argument { number } => write!(f, "argument {number}"),
        }
    }
}

impl Witness {
    /// The one of a session of `identity`.
    pub fn new(
        (workload, service): (&WorkloadName, &ServiceName),
        protocol: &'static str,
        session: SessionId,
        identity: &Identity,
    ) -> Self {
        Self {
            service: Some(service.clone()),
            protocol,
            session: Some(session),
            ..Self::of_process(workload, identity)
        }
    }

    /// The process of `identity`, which has opened no session.
    pub fn of_process(workload: &WorkloadName, identity: &Identity) -> Self {
        let executable = match &identity.process {
            ProcessState::Known(process) => process.executable.as_deref(),
            ProcessState::Gone { .. } | ProcessState::Unreadable { .. } => None,
        };
        Self {
            workload: workload.clone(),
            service: None,
            protocol: "",
            session: None,
            cgroup: identity.cgroup.path.clone(),
            identity: cut(&identity.principal()),
            executable: executable.map(|path| cut(&path.to_string_lossy())),
            uid: identity.uid,
        }
    }
}

fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let shown = text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default();
    format!("{shown}…")
}
