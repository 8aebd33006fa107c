//! One policy file, as typed values.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::claim::{ClaimRule, TokenPattern};
use super::credential::CredentialSource;
use super::glob::Glob;
use super::http_mask::{HeaderPattern, KeyPattern, MediaPattern};
use super::json_path::JsonPath;
use super::request::RequestRule;
use super::selector::{ContainerSpec, LabelRule, Selector};
use crate::model::{Effect, RuleName, ServiceName, SocketPath, WorkloadName};

/// A policy file: one workload and the services that are protected for it.
#[derive(Clone, Debug)]
pub struct PolicyDoc {
    /// The file it came from, for messages.
    pub path: PathBuf,
    /// BLAKE3 of the file's bytes, lower-case hex; stands in every record made under it.
    pub hash: String,
    /// The file as it was read.
    pub text: PolicyText,
    /// `[workload]`.
    pub workload: Workload,
    /// `[identity.oidc]` or `[identity.saml]`; `None`: no token is asked for.
    pub identity: Option<IdentitySpec>,
    /// `deny` of `[identity]`: tokens that do not count, whatever else is right with them.
    pub denied: Vec<TokenPattern>,
    /// `[dns]`.
    pub dns: DnsSpec,
    /// `[findings]`.
    pub findings: FindingsSpec,
    /// `[[service]]`, in the order of the file.
    pub services: Vec<ServiceDoc>,
}

/// The text of a policy file. `Debug` keeps it to itself: names of injected users may be in it.
#[derive(Clone)]
pub struct PolicyText(Arc<str>);

impl PolicyText {
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PolicyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyText")
    }
}

/// `[workload]`.
#[derive(Clone, Debug)]
pub struct Workload {
    /// `name`.
    pub name: WorkloadName,
    /// `cgroup`, `unit`, `slice` and `user_unit`: the cgroups that are the workload, those below them included. With
    /// `container`: the cgroups of which each is a container's, `cgroup` alone; empty: the usual places.
    pub selectors: Vec<Selector>,
    /// `[workload.container]`.
    pub container: Option<ContainerSpec>,
    /// `environment`: variables that a job has to have with one of their values; what it says of itself.
    pub environment: Vec<LabelRule>,
    /// `mode`, "enforce" if left out.
    pub mode: Mode,
    /// `egress`, "allow" if left out.
    pub egress: Egress,
    /// `require`: what the host has to have, so that the workload is managed at all.
    pub require: Vec<Demand>,
}

impl Workload {
    /// Whether one of its selectors names this very cgroup; its ancestors are not asked. With `container` that says no more
    /// than that it may be one.
    pub fn matches(&self, cgroup: &str) -> bool {
        self.selectors.iter().any(|selector| selector.matches(cgroup))
    }

    /// Patterns that match wherever its containers are, and perhaps more.
    pub(super) fn container_reach(&self) -> Vec<Glob> {
        let usual = self.container.iter().filter(|_| self.selectors.is_empty());
        let usual = usual.flat_map(ContainerSpec::usual_places);
        let usual: Vec<Glob> = usual.flat_map(|place| place.reach()).collect();
        let named = self.selectors.iter().flat_map(Selector::reach);
        usual.into_iter().chain(named).collect()
    }
}

/// What a policy can demand of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// `"lsm"`: every program on security hooks.
    Lsm,
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Refuse what the rules refuse.
    Enforce,
    /// Record and report what would be refused; refuse nothing.
    Observe,
}

/// What happens to connections to destinations that no service names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// Refused by the kernel side.
    Deny,
    /// Passed, untouched.
    Allow,
    /// Passed and reported.
    Observe,
}

/// `[dns]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSpec {
    /// `allow`: globs over names that may be asked for besides those of services, with `egress = "deny"`. Lower case; `*`
    /// stays within one label, `**` does not.
    pub allow: Vec<String>,
    /// `resolvers`: the nameservers that may be asked with `egress = "deny"`, and whose answers are believed. Empty: those of
    /// the host's resolv.conf, and of the workload's.
    pub resolvers: Vec<IpAddr>,
}

/// `[findings]`: where the agent looks for secrets that the workload still has. By default nowhere but in what it sends by
/// itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingsSpec {
    /// `probe`: what a client is asked for when it logs in; `None`: nothing.
    pub probe: Option<Probe>,
    /// `environment`: whether the environment of a process that opens a session is looked at.
    pub environment: bool,
    /// `command_line`: whether its command line is.
    pub command_line: bool,
    /// `interval`: how often it is looked for processes that were not looked at yet, whether they open sessions or not; `None`: it is
    /// not.
    pub interval: Option<Duration>,
    /// `cookies`: whether cookies whose names say that they hold a login are findings.
    pub cookies: bool,
    /// `ignore`: names of variables that are not looked at; `*` is any number of characters.
    pub ignore: Vec<String>,
}

/// What a client is asked for that is let in without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `"password"`: its password, in clear.
    Password,
    /// `"proof"`: a salted proof that it has one. The agent does not learn it.
    Proof,
}

/// `[identity.oidc]` or `[identity.saml]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySpec {
    /// What the workload proves itself with.
    pub proof: Proof,
    /// `issuer`: URL, exactly as the token's `iss`. Of SAML `entity_id`.
    pub issuer: String,
    /// `audience`: has to be in the token's `aud`, or the assertion's only audience.
    pub audience: String,
    /// `token`.
    pub token: TokenSource,
    /// `claims`, of SAML `attributes`: each has to be in the token with one of its values.
    pub claims: Vec<ClaimRule>,
    /// `ca`: PEM file that verifies the issuer's HTTPS, besides the system's roots.
    pub ca: Option<PathBuf>,
    /// `leeway`, 30 s if left out: clock difference to the issuer.
    pub leeway: Duration,
    /// `offline`, 1 h if left out: how long the issuer's keys count after its last answer.
    pub offline: Duration,
}

/// The kind of a workload's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// `[identity.oidc]`: a JSON Web Token.
    Oidc,
    /// `[identity.saml]`: a SAML 2.0 assertion.
    Saml(SamlSpec),
}

/// What only `[identity.saml]` has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamlSpec {
    /// `metadata`: URL of the provider's metadata.
    pub metadata: String,
    /// `recipient`: whom the assertion has to be delivered to. `None`: to nobody in particular.
    pub recipient: Option<String>,
    /// `detached`: assertions with a signature beside them are taken too.
    pub detached: bool,
}

/// Where a workload's token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `{ env = "NAME" }` of the connecting process, else of its nearest ancestor in the same cgroup.
    Env(String),
    /// `{ file = "/path" }`, read as the process sees it (its root directory, its uid).
    File(PathBuf),
    /// `{ login = true }`: the job registers it with `tollgate identity login`.
    Login,
}

/// `[[service]]`: a protected destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDoc {
    /// `name`.
    pub name: ServiceName,
    /// `protocol`.
    pub protocol: Protocol,
    /// `address`; empty where the service is a unix socket alone.
    pub addresses: Vec<Endpoint>,
    /// `unix`; if left out, where PostgreSQL listens by custom beside an address that is loopback.
    pub unix: Vec<SocketPath>,
    /// `tls`.
    pub tls: TlsSpec,
    /// `client` of `tls`.
    pub client_tls: ClientTls,
    /// `[service.credential]`; `None` for [`Protocol::Opaque`], and for [`Protocol::Http`] where the workload's own
    /// credential passes.
    pub credential: Option<CredentialSource>,
    /// `unmasked`: kinds of bodies that no mask can read and that pass all the same.
    pub unmasked: Vec<MediaPattern>,
    /// `[[service.mask]]`.
    pub masks: Vec<MaskRule>,
    /// `[[service.rule]]`.
    pub rules: Vec<RuleDoc>,
    /// `[service.limits]`.
    pub limits: Limits,
}

/// Wire protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// "postgres": PostgreSQL frontend/backend protocol 3.
    Postgres,
    /// "http": HTTP/1.1 and HTTP/2, with what is carried over them: WebSocket, gRPC, server-sent events.
    Http,
    /// "opaque": recorded and passed, not understood: no verdict, no credential, no mask. Named as such on purpose.
    Opaque,
}

/// One entry of `address`: `db.acme.test:5432`, `10.0.4.0/24:5432`, `[2001:db8::/32]:5432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or network.
    pub host: EndpointHost,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

/// Host of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointHost {
    /// A DNS name, lower case; resolved by the agent and followed.
    Name(String),
    /// A network; a single address is a /32 or /128.
    Net(IpNet),
}

/// `tls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSpec {
    /// `upstream`, "verify-full" if left out.
    pub upstream: TlsMode,
    /// `ca`: PEM file of the authorities that may vouch for the target; the system's if left out.
    pub ca: Option<PathBuf>,
    /// `server_name`: name to verify where the address is a network; the endpoint's name if left out.
    pub server_name: Option<String>,
}

/// `client` of `tls`: how the workload speaks to the agent. Of [`Protocol::Http`] alone: elsewhere the protocol says when TLS
/// begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientTls {
    /// "terminate": TLS, with a certificate of the host's authority.
    #[default]
    Terminate,
    /// "plain": no TLS.
    Plain,
}

/// How the target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS, the certificate is not checked. Protects from readers, not from impostors.
    Require,
    /// TLS, chain and name are checked.
    VerifyFull,
}

/// `[[service.mask]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskRule {
    /// What is masked.
    pub target: MaskTarget,
    /// `with`.
    pub operator: MaskOperator,
}

/// What a mask applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaskTarget {
    /// `columns`: by origin.
    Columns(Vec<ColumnPattern>),
    /// `detect`: values found by what they look like.
    Detect(Vec<Detector>),
    /// `json`: values of JSON documents, by their paths.
    Json(Vec<JsonPath>),
    /// `keys`: values under a name, at any depth: members of JSON, form fields, elements and attributes of XML, columns of CSV.
    Keys(Vec<KeyPattern>),
    /// `headers`: header and trailer fields.
    Headers(Vec<HeaderPattern>),
}

/// `customers.email`, `crm.customers.email`, `*.card_number`: each part a glob, schema `*` if left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPattern {
    /// Glob over schemas.
    pub schema: String,
    /// Glob over tables.
    pub table: String,
    /// Glob over columns.
    pub column: String,
}

/// `orders`, `public.orders`, `audit.*`: each part a glob, schema `public` if left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    /// Glob over schemas.
    pub schema: String,
    /// Glob over tables.
    pub table: String,
}

/// A kind of value that is known by its looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detector {
    /// "card": payment card number, checked by Luhn.
    Card,
    /// "email".
    Email,
    /// "jwt".
    Jwt,
    /// "private-key": PEM private key.
    PrivateKey,
    /// "aws-access-key".
    AwsAccessKey,
}

/// `with`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaskOperator {
    /// The value is replaced by a fixed text of its type.
    Redact,
    /// NULL.
    Null,
    /// First and last characters stay: `a***@***.com`, `************1234`.
    Partial,
    /// Keyed hash (BLAKE3, the host's mask key), as hex; equal values stay equal.
    Hash,
    /// `{ constant = "text" }`.
    Constant(String),
}

/// `[[service.rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDoc {
    /// `name`.
    pub name: RuleName,
    /// `effects`; at least one. Of services of HTTP, if left out: those of every known method; of a deny rule all.
    pub effects: Vec<Effect>,
    /// `tables`; empty: any object, or none.
    pub tables: Vec<TablePattern>,
    /// `functions`: names (`pg_catalog.pg_sleep`, `report_*`); empty: not asked. Rules with `procedural` or `unknown`.
    pub functions: Vec<TablePattern>,
    /// `without_where = true`: only commands with an UPDATE or DELETE without WHERE.
    pub without_where: Option<bool>,
    /// What is asked of requests of HTTP.
    pub request: RequestRule,
    /// `verdict`.
    pub verdict: RuleVerdict,
}

/// What a rule says of the commands that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleVerdict {
    /// "allow".
    Allow,
    /// "deny".
    Deny {
        /// `hint`: what the author of the job should do instead.
        hint: Option<String>,
    },
    /// "approve".
    Approve {
        /// `approvers`: names of groups or users of this host; at least one.
        approvers: Vec<String>,
        /// `timeout`, 10 minutes if left out.
        timeout: Duration,
    },
}

/// `[service.limits]`; each `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `rows` to the client in one session.
    pub rows: Option<u64>,
    /// `bytes` to the client in one session.
    pub bytes: Option<u64>,
    /// `session`: longest duration of a session.
    pub duration: Option<Duration>,
}
