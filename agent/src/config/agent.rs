//! The agent's own file, `/etc/tollgate/tollgate.toml`. Every key may be left out, and so may the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::credential::SourceSpec;
use super::decode::{or_default, path_or, source_spec};
use super::keys;
use super::load::{decode_with, read};
use super::problem::PolicyErrors;
use super::reader::{Table, Wrong};
use super::scalar;

/// Settings of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// `state_dir`: records, keys, ledger; survives a restart of the host.
    pub state_dir: PathBuf,
    /// `run_dir`: sockets; need not survive a restart of the host.
    pub run_dir: PathBuf,
    /// `policy_dir`: the policy files, `*.toml`.
    pub policy_dir: PathBuf,
    /// `pin_dir`: links and maps of the kernel side, on a bpffs.
    pub pin_dir: PathBuf,
    /// `[record] durability`.
    pub durability: Durability,
    /// `[ship]`; `None`: records stay on the host.
    pub ship: Option<ShipSpec>,
    /// `[listen] port`; `None`: any that is free.
    pub listen_port: Option<u16>,
    /// `[control] socket`.
    pub control_socket: PathBuf,
    /// Where jobs log in: `job.sock` below `run_dir`.
    pub job_socket: PathBuf,
    /// `[resolve] interval`: how often the names of policies are resolved anew.
    pub resolve_interval: Duration,
    /// `[containers] docker`: the socket of Docker Engine.
    pub docker_socket: PathBuf,
    /// `[containers] podman`: the socket of Podman's service.
    pub podman_socket: PathBuf,
}

/// What a record survives before its bytes are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// "agent": the death of the agent.
    Agent,
    /// "host": the death of the host; costs an fdatasync for each group of frames.
    Host,
}

/// `[ship]`: where finished segments go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipSpec {
    /// `to`.
    pub to: ShipTarget,
    /// `endpoint`: URL of an S3-compatible server; `None`: Amazon's of the region.
    pub endpoint: Option<String>,
    /// `region`.
    pub region: Option<String>,
    /// `access_key`; `None`: the SDK's usual chain of the agent's own environment.
    pub access_key: Option<SourceSpec>,
    /// `secret_key`; given exactly where `access_key` is.
    pub secret_key: Option<SourceSpec>,
}

/// `to` of `[ship]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShipTarget {
    /// `file:///path`.
    Directory(PathBuf),
    /// `s3://bucket/prefix`.
    S3 {
        /// Bucket.
        bucket: String,
        /// Prefix of every object's key, without slashes at its ends; may be empty.
        prefix: String,
    },
}

const STATE_DIR: &str = "/var/lib/tollgate";
const RUN_DIR: &str = "/run/tollgate";
const POLICY_DIR: &str = "/etc/tollgate/policies.d";
const PIN_DIR: &str = "/sys/fs/bpf/tollgate";
const SOCKET: &str = "control.sock";
const JOB_SOCKET: &str = "job.sock";
const DOCKER: &str = "/run/docker.sock";
const PODMAN: &str = "/run/podman/podman.sock";
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            state_dir: STATE_DIR.into(),
            run_dir: RUN_DIR.into(),
            policy_dir: POLICY_DIR.into(),
            pin_dir: PIN_DIR.into(),
            durability: Durability::Agent,
            ship: None,
            listen_port: None,
            control_socket: Path::new(RUN_DIR).join(SOCKET),
            job_socket: Path::new(RUN_DIR).join(JOB_SOCKET),
            resolve_interval: RESOLVE_INTERVAL,
            docker_socket: DOCKER.into(),
            podman_socket: PODMAN.into(),
        }
    }
}

impl AgentConfig {
    /// Where the file is looked for, if none is named.
    pub const DEFAULT_PATH: &'static str = "/etc/tollgate/tollgate.toml";

    /// Reads `path`. Without one, [`Self::DEFAULT_PATH`] is read if it is there; if it is not, the defaults stand.
    pub fn load(path: Option<&Path>) -> Result<Self, PolicyErrors> {
        let file = match path {
            Some(path) => path,
            None if Path::new(Self::DEFAULT_PATH).exists() => Path::new(Self::DEFAULT_PATH),
            None => return Ok(Self::default()),
        };
        Self::parse(file, &read(file)?)
    }

    /// Where records are kept: known to the agent that writes them and to the verbs that read them without it.
    pub fn records_dir(&self) -> PathBuf {
        self.state_dir.join("records")
    }

    /// Decodes the text of the file; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, PolicyErrors> {
        decode_with(path, text, |root, report| {
            decode(Table::root(&keys::AGENT, root, report)?)
        })
    }
}

fn decode(table: Table<'_>) -> Option<AgentConfig> {
    let state_dir = path_or(table.optional("state_dir"), STATE_DIR);
    let run_dir = path_or(table.optional("run_dir"), RUN_DIR);
    let policy_dir = path_or(table.optional("policy_dir"), POLICY_DIR);
    let pin_dir = path_or(table.optional("pin_dir"), PIN_DIR);
    let durability = inner(
        &table,
        "record",
        &keys::AGENT_RECORD,
        Durability::Agent,
        |record| {
            or_default(record.optional("durability"), Durability::Agent, |field| {
                field.one_of(
                    &[("agent", Durability::Agent), ("host", Durability::Host)],
                    &["none"],
                )
            })
        },
    );
    let ship = inner(&table, "ship", &keys::AGENT_SHIP, None, |table| {
        ship(table).map(Some)
    });
    let port = inner(&table, "listen", &keys::AGENT_LISTEN, 0, |listen| {
        or_default(listen.optional("port"), 0, |field| {
            let port = field.integer(0, u64::from(u16::MAX))?;
            u16::try_from(port).ok()
        })
    });
    let socket = inner(&table, "control", &keys::AGENT_CONTROL, None, |control| {
        or_default(control.optional("socket"), None, |field| field.path().map(Some))
    });
    let interval = inner(
        &table,
        "resolve",
        &keys::AGENT_RESOLVE,
        RESOLVE_INTERVAL,
        |resolve| {
            or_default(resolve.optional("interval"), RESOLVE_INTERVAL, |field| {
                field.parsed(|text| scalar::duration(text, SECOND, HOUR))
            })
        },
    );
    let containers = inner(
        &table,
        "containers",
        &keys::AGENT_CONTAINERS,
        (DOCKER.into(), PODMAN.into()),
        |containers| {
            let docker = path_or(containers.optional("docker"), DOCKER);
            let podman = path_or(containers.optional("podman"), PODMAN);
            Some((docker?, podman?))
        },
    );
    let (docker_socket, podman_socket) = containers?;
    let run_dir = run_dir?;
    Some(AgentConfig {
        state_dir: state_dir?,
        policy_dir: policy_dir?,
        pin_dir: pin_dir?,
        durability: durability?,
        ship: ship?,
        listen_port: Some(port?).filter(|port| *port != 0),
        control_socket: socket?.unwrap_or_else(|| run_dir.join(SOCKET)),
        job_socket: run_dir.join(JOB_SOCKET),
        resolve_interval: interval?,
        docker_socket,
        podman_socket,
        run_dir,
    })
}

/// Something of a table that may be left out.
fn inner<'v, T>(
    table: &Table<'v>,
    key: &'static str,
    keys: &'static keys::TableKeys,
    default: T,
    decode: impl FnOnce(Table<'v>) -> Option<T>,
) -> Option<T> {
    or_default(table.optional(key), default, |field| decode(field.table(keys)?))
}

fn ship(table: Table<'_>) -> Option<ShipSpec> {
    let to = table.required("to").and_then(|field| field.parsed(target));
    if matches!(to, Some(ShipTarget::Directory(_))) {
        for key in ["endpoint", "region", "access_key", "secret_key"] {
            table.refuse(
                key,
                &format!("\"{key}\" has a meaning with an s3:// target alone"),
                "remove it",
            );
        }
    }
    let endpoint = or_default(table.optional("endpoint"), None, |field| {
        field.parsed(endpoint).map(Some)
    });
    let region = or_default(table.optional("region"), None, |field| {
        field.parsed(|text| scalar::line(text, 64)).map(Some)
    });
    let key = |name| {
        or_default(table.optional(name), None, |field| {
            source_spec(field, false).map(Some)
        })
    };
    let (access_key, secret_key) = (key("access_key"), key("secret_key"));
    if table.optional("access_key").is_some() != table.optional("secret_key").is_some() {
        table.error(
            "\"access_key\" and \"secret_key\" belong together",
            "give both, or neither",
        );
    }
    Some(ShipSpec {
        to: to?,
        endpoint: endpoint?,
        region: region?,
        access_key: access_key?,
        secret_key: secret_key?,
    })
}

fn target(text: &str) -> Result<ShipTarget, Wrong> {
    if let Some(path) = text.strip_prefix("file://") {
        if path.starts_with('/') && path.len() > 1 && !path.contains('%') {
            return Ok(ShipTarget::Directory(path.into()));
        }
        return Err(Wrong::new(
            format!("\"{text}\" names no directory"),
            "write three slashes and a path without %-escapes, such as \"file:///var/backups/tollgate\"",
        ));
    }
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        if !fits {
            return Err(Wrong::new(
                format!("\"{bucket}\" is no name of a bucket"),
                "write 3 to 63 lower-case letters, digits, \"-\" and \".\", such as \"s3://acme-audit/tollgate\"",
            ));
        }
        return Ok(ShipTarget::S3 {
            bucket: bucket.into(),
            prefix: prefix.trim_matches('/').into(),
        });
    }
    let lead = if text.starts_with("gs://") || text.starts_with("az://") || text.starts_with("azure://") {
        format!("\"{text}\" is not supported in this version")
    } else {
        format!("\"{text}\" is no target")
    };
    Err(Wrong::new(
        lead,
        "write \"file:///path\" or \"s3://bucket/prefix\"",
    ))
}

fn endpoint(text: &str) -> Result<String, Wrong> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#', ' '])) {
        return Ok(text.trim_end_matches('/').into());
    }
    Err(Wrong::new(
        format!(
            "\"{}\" is no URL of a server",
            text.split('@').next_back().unwrap_or_default()
        ),
        "write it such as \"https://minio.acme.test:9000\", without user and password",
    ))
}
