//! The keys of every table of a policy file and of the agent's file: what the decoder accepts, what the messages
//! suggest, and what `docs/policy-reference.md` has to describe.

/// The keys of one table.
#[derive(Debug)]
pub(super) struct TableKeys {
    /// How the table is written, as it stands in messages and as heading in the reference.
    pub(super) heading: &'static str,
    /// Keys, each with an example of a value.
    pub(super) keys: &'static [(&'static str, &'static str)],
    /// Keys that the design has and this version has not.
    pub(super) later: &'static [&'static str],
    /// Whether a value in it may be a secret written there by mistake.
    pub(super) secret: bool,
}

pub(super) const ROOT: TableKeys = TableKeys {
    heading: "the policy file",
    keys: &[
        ("workload", "a table [workload]"),
        ("identity", "a table [identity.oidc] or [identity.saml]"),
        ("dns", "a table [dns]"),
        ("findings", "a table [findings]"),
        ("service", "a table [[service]]"),
    ],
    later: &["record"],
    secret: false,
};

pub(super) const WORKLOAD: TableKeys = TableKeys {
    heading: "[workload]",
    keys: &[
        ("name", r#""ci-report""#),
        ("cgroup", r#"["/actions.slice/report-*.service"]"#),
        ("unit", r#"["backup@*.service"]"#),
        ("slice", r#"["ci.slice"]"#),
        ("user_unit", r#"["nightly.service"]"#),
        ("container", "a table [workload.container]"),
        ("environment", r#"{ CI_PROJECT_PATH = "acme/report" }"#),
        ("mode", r#""enforce""#),
        ("egress", r#""deny""#),
        ("require", r#"["lsm"]"#),
    ],
    later: &["record"],
    secret: false,
};

pub(super) const CONTAINER: TableKeys = TableKeys {
    heading: "[workload.container]",
    keys: &[
        ("engine", r#""docker""#),
        ("image", r#"["registry.acme.test/billing/*"]"#),
        ("labels", r#"{ "com.docker.compose.project" = "billing" }"#),
    ],
    later: &[],
    secret: false,
};

pub(super) const DNS: TableKeys = TableKeys {
    heading: "[dns]",
    keys: &[
        ("allow", r#"["*.debian.org"]"#),
        ("resolvers", r#"["10.0.0.2", "2001:db8::53"]"#),
    ],
    later: &[],
    secret: false,
};

pub(super) const FINDINGS: TableKeys = TableKeys {
    heading: "[findings]",
    keys: &[
        ("probe", r#""password""#),
        ("environment", "true"),
        ("command_line", "true"),
        ("interval", r#""10s""#),
        ("cookies", "true"),
        ("ignore", r#"["CI_JOB_TOKEN"]"#),
    ],
    later: &[],
    secret: false,
};

pub(super) const IDENTITY: TableKeys = TableKeys {
    heading: "[identity]",
    keys: &[
        ("oidc", "a table [identity.oidc]"),
        ("saml", "a table [identity.saml]"),
        ("deny", r#"[{ subject = "project_path:acme/old:*" }]"#),
    ],
    later: &[],
    secret: false,
};

pub(super) const OIDC: TableKeys = TableKeys {
    heading: "[identity.oidc]",
    keys: &[
        ("issuer", r#""https://gitlab.acme.test""#),
        ("audience", r#""tollgate""#),
        ("token", r#"{ env = "TOLLGATE_ID_TOKEN" }"#),
        ("claims", r#"{ project_path = "acme/report" }"#),
        ("ca", r#""/etc/tollgate/acme-ca.pem""#),
        ("leeway", r#""30s""#),
        ("offline", r#""1h""#),
    ],
    later: &["jwks_max_age"],
    secret: false,
};

pub(super) const SAML: TableKeys = TableKeys {
    heading: "[identity.saml]",
    keys: &[
        ("metadata", r#""https://idp.acme.test/metadata""#),
        ("entity_id", r#""https://idp.acme.test""#),
        ("audience", r#""tollgate""#),
        ("recipient", r#""https://tollgate.acme.test/jobs""#),
        ("token", r#"{ file = "/run/job/assertion" }"#),
        ("attributes", r#"{ department = "billing" }"#),
        ("detached", "true"),
        ("ca", r#""/etc/tollgate/acme-ca.pem""#),
        ("leeway", r#""30s""#),
        ("offline", r#""1h""#),
    ],
    later: &[],
    secret: false,
};

pub(super) const DENY: TableKeys = TableKeys {
    heading: "deny",
    keys: &[
        ("subject", r#""project_path:acme/old:*""#),
        ("claim", r#""user_login""#),
        ("value", r#""mallory""#),
        ("key", r#""2024-01""#),
    ],
    later: &[],
    secret: false,
};

pub(super) const CLAIM: TableKeys = TableKeys {
    heading: "claims",
    keys: &[("equals", r#""acme/report""#)],
    later: &[],
    secret: false,
};

pub(super) const TOKEN: TableKeys = TableKeys {
    heading: "token",
    keys: &[
        ("env", r#""TOLLGATE_ID_TOKEN""#),
        ("file", r#""/run/job/token""#),
        ("login", "true"),
    ],
    later: &[],
    secret: false,
};

pub(super) const SERVICE: TableKeys = TableKeys {
    heading: "[[service]]",
    keys: &[
        ("name", r#""orders-db""#),
        ("protocol", r#""postgres""#),
        ("address", r#"["db.acme.test:5432"]"#),
        ("unix", r#"["/run/postgresql/.s.PGSQL.5432"]"#),
        ("tls", r#"{ upstream = "verify-full" }"#),
        ("credential", "a table [service.credential]"),
        ("unmasked", r#"["image/*"]"#),
        ("mask", "a table [[service.mask]]"),
        ("rule", "a table [[service.rule]]"),
        ("limits", "a table [service.limits]"),
    ],
    later: &["record", "approval"],
    secret: false,
};

pub(super) const TLS: TableKeys = TableKeys {
    heading: "tls",
    keys: &[
        ("upstream", r#""verify-full""#),
        ("ca", r#""/etc/tollgate/acme-ca.pem""#),
        ("server_name", r#""db.acme.test""#),
        ("client", r#""terminate""#),
    ],
    later: &["cert", "key"],
    secret: false,
};

pub(super) const CREDENTIAL: TableKeys = TableKeys {
    heading: "[service.credential]",
    keys: &[
        ("source", r#""file""#),
        ("user", r#""report_ro""#),
        ("password", r#""/etc/tollgate/secrets/orders-db""#),
        ("identity", r#"{ systemd = "age-identity" }"#),
        ("token", r#""/etc/tollgate/secrets/api""#),
        ("key", r#""/etc/tollgate/secrets/api.key""#),
        ("certificate", r#""/etc/tollgate/secrets/api.pem""#),
        ("inject", r#"{ header = "Authorization", scheme = "Bearer" }"#),
        ("placeholder", r#""tollgate-placeholder""#),
        ("database", r#""orders""#),
        ("command", r#"["/usr/local/bin/orders-secret"]"#),
        ("timeout", r#""10s""#),
        (
            "admin",
            r#"{ user = "tollgate_admin", password = { systemd = "orders-admin" } }"#,
        ),
        ("grant", r#"["report_reader"]"#),
        ("set_role", r#""app_owner""#),
        ("reassign_to", r#""app_owner""#),
        ("ttl", r#""30m""#),
        ("connections", "3"),
        ("share", r#""session""#),
        ("ca", r#"{ systemd = "ssh-ca" }"#),
        ("principals", r#"["backup"]"#),
        ("force_command", r#""/usr/bin/rsync --server --sender . /srv""#),
        ("source_address", r#"["10.0.4.0/24"]"#),
        ("extensions", r#"["permit-pty"]"#),
        ("vault", "a table [service.credential.vault]"),
        ("engine", r#"{ database = "report" }"#),
        ("max_ttl", r#""12h""#),
        ("endpoint", r#""https://login.acme.test/token""#),
        ("endpoint_ca", r#""/etc/tollgate/acme-ca.pem""#),
        ("revocation_endpoint", r#""https://login.acme.test/revoke""#),
        ("grant_type", r#""client_credentials""#),
        ("client_id", r#""tollgate""#),
        ("client_auth", r#""basic""#),
        ("client_secret", r#"{ systemd = "oauth-secret" }"#),
        ("client_key", r#"{ systemd = "oauth-key" }"#),
        ("refresh_token", r#"{ systemd = "oauth-refresh" }"#),
        ("subject_token_type", r#""jwt""#),
        ("scope", r#"["orders.read"]"#),
        ("audience", r#""orders""#),
        ("resource", r#""https://orders.acme.test""#),
        ("app_id", "123456"),
        ("app_key", r#"{ systemd = "github-app" }"#),
        ("installation", "4711"),
        ("repositories", r#"["report"]"#),
        ("permissions", r#"{ contents = "read" }"#),
        ("region", r#""eu-central-1""#),
        ("role_arn", r#""arn:aws:iam::123456789012:role/report""#),
        (
            "keys",
            r#"{ access_key_id = "AKIA…", secret_access_key = { systemd = "aws-secret" } }"#,
        ),
        ("session_policy", r#"'{"Version":"2012-10-17","Statement":[…]}'"#),
        ("external_id", r#""acme-report""#),
    ],
    later: &["role", "mount", "probe"],
    secret: true,
};

pub(super) const INJECT: TableKeys = TableKeys {
    heading: "inject",
    keys: &[
        ("header", r#""Authorization""#),
        ("scheme", r#""Bearer""#),
        ("query", r#""key""#),
        ("cookie", r#""session""#),
        ("basic", r#""x-access-token""#),
        ("sigv4", r#""s3""#),
        ("region", r#""eu-central-1""#),
    ],
    later: &[],
    secret: true,
};

pub(super) const PLACEHOLDER: TableKeys = TableKeys {
    heading: "placeholder",
    keys: &[
        ("text", r#""tollgate-placeholder""#),
        ("bodies", r#"["/oauth/token"]"#),
    ],
    later: &[],
    secret: false,
};

pub(super) const ADMIN: TableKeys = TableKeys {
    heading: "admin",
    keys: &[
        ("user", r#""tollgate_admin""#),
        ("password", r#"{ systemd = "orders-admin" }"#),
        ("database", r#""postgres""#),
    ],
    later: &[],
    secret: true,
};

pub(super) const VAULT: TableKeys = TableKeys {
    heading: "vault",
    keys: &[
        ("address", r#""https://vault.acme.test:8200""#),
        ("namespace", r#""ci""#),
        ("ca", r#""/etc/tollgate/acme-ca.pem""#),
        ("auth", r#"{ token = { systemd = "vault-token" } }"#),
    ],
    later: &["cert", "key"],
    secret: true,
};

pub(super) const VAULT_AUTH: TableKeys = TableKeys {
    heading: "auth",
    keys: &[
        ("token", r#"{ systemd = "vault-token" }"#),
        ("role_id", r#""7d1f3b0e-…""#),
        ("secret_id", r#"{ systemd = "vault-secret-id" }"#),
        ("jwt", r#""ci-report""#),
        ("cleanup", r#"{ systemd = "vault-cleanup" }"#),
        ("mount", r#""approle""#),
    ],
    later: &["kubernetes", "aws", "cert"],
    secret: true,
};

pub(super) const VAULT_ENGINE: TableKeys = TableKeys {
    heading: "engine",
    keys: &[
        ("kv", r#""apps/orders""#),
        ("version", "2"),
        ("pin", "7"),
        ("user", r#""username""#),
        ("password", r#""password""#),
        ("token", r#""token""#),
        ("database", r#""report""#),
        ("static_role", r#""report""#),
        ("ssh", r#""deploy""#),
        ("principals", r#"["deploy"]"#),
        ("ttl", r#""5m""#),
        ("mount", r#""database""#),
    ],
    later: &["pki", "aws"],
    secret: true,
};

pub(super) const AWS_KEYS: TableKeys = TableKeys {
    heading: "keys",
    keys: &[
        ("access_key_id", r#""AKIAIOSFODNN7EXAMPLE""#),
        ("secret_access_key", r#"{ systemd = "aws-secret" }"#),
    ],
    later: &["session_token"],
    secret: true,
};

pub(super) const SOURCE_SPEC: TableKeys = TableKeys {
    heading: "source",
    keys: &[
        ("file", r#""/etc/tollgate/secrets/orders-db-user""#),
        ("env", r#""ORDERS_DB_USER""#),
        ("systemd", r#""orders-db-user""#),
        ("age", r#""/etc/tollgate/secrets/orders-db-user.age""#),
        ("identity", r#"{ systemd = "age-identity" }"#),
    ],
    later: &["exec", "vault"],
    secret: true,
};

pub(super) const MASK: TableKeys = TableKeys {
    heading: "[[service.mask]]",
    keys: &[
        ("columns", r#"["customers.email"]"#),
        ("detect", r#"["card"]"#),
        ("json", r#"["$.users[*].email"]"#),
        ("keys", r#"["email"]"#),
        ("headers", r#"["Set-Cookie"]"#),
        ("with", r#""redact""#),
    ],
    later: &[],
    secret: false,
};

pub(super) const CONSTANT: TableKeys = TableKeys {
    heading: "with",
    keys: &[("constant", r#""(hidden)""#)],
    later: &["tokenize"],
    secret: false,
};

pub(super) const RULE: TableKeys = TableKeys {
    heading: "[[service.rule]]",
    keys: &[
        ("name", r#""reads""#),
        ("effects", r#"["read"]"#),
        ("tables", r#"["public.orders"]"#),
        ("functions", r#"["reporting.*"]"#),
        ("without_where", "true"),
        ("methods", r#"["GET", "HEAD"]"#),
        ("hosts", r#"["api.acme.test"]"#),
        ("paths", r#"["/v1/users/{id}", "/v1/orders/**"]"#),
        ("query", r#"{ dry_run = "true" }"#),
        ("headers", r#"{ X-Environment = ["staging", "test"] }"#),
        ("json", r#"{ "$.amount" = { max = 1000 } }"#),
        ("body_max", r#""1MiB""#),
        ("grpc", r#"["acme.orders.Orders/Get*"]"#),
        ("graphql", r#"{ type = "query" }"#),
        ("verdict", r#""allow""#),
        ("hint", r#""write to the staging table instead""#),
        ("approvers", r#"["dba"]"#),
        ("timeout", r#""10m""#),
    ],
    later: &[
        "schemas",
        "roles",
        "search_path",
        "parameters",
        "rows",
        "quorum",
        "scope",
        "when",
    ],
    secret: false,
};

pub(super) const CONDITION: TableKeys = TableKeys {
    heading: "a condition",
    keys: &[
        ("like", r#""svc-*""#),
        ("min", "1"),
        ("max", "100"),
        ("present", "false"),
    ],
    later: &["not"],
    secret: false,
};

pub(super) const GRAPHQL: TableKeys = TableKeys {
    heading: "graphql",
    keys: &[
        ("type", r#""query""#),
        ("name", r#""Get*""#),
        ("fields", r#"["user", "orders"]"#),
    ],
    later: &["depth"],
    secret: false,
};

pub(super) const LIMITS: TableKeys = TableKeys {
    heading: "[service.limits]",
    keys: &[
        ("rows", "5_000_000"),
        ("bytes", r#""2GiB""#),
        ("session", r#""1h30m""#),
    ],
    later: &["rate", "commands", "sessions", "idle"],
    secret: false,
};

pub(super) const AGENT: TableKeys = TableKeys {
    heading: "tollgate.toml",
    keys: &[
        ("state_dir", r#""/var/lib/tollgate""#),
        ("run_dir", r#""/run/tollgate""#),
        ("policy_dir", r#""/etc/tollgate/policies.d""#),
        ("pin_dir", r#""/sys/fs/bpf/tollgate""#),
        ("record", "a table [record]"),
        ("ship", "a table [ship]"),
        ("listen", "a table [listen]"),
        ("control", "a table [control]"),
        ("resolve", "a table [resolve]"),
        ("containers", "a table [containers]"),
    ],
    later: &["metrics", "events", "webhook"],
    secret: false,
};

pub(super) const AGENT_RECORD: TableKeys = TableKeys {
    heading: "[record]",
    keys: &[("durability", r#""agent""#)],
    later: &["sealed", "retention"],
    secret: false,
};

pub(super) const AGENT_SHIP: TableKeys = TableKeys {
    heading: "[ship]",
    keys: &[
        ("to", r#""s3://acme-audit/tollgate""#),
        ("endpoint", r#""https://minio.acme.test:9000""#),
        ("region", r#""eu-central-1""#),
        ("access_key", r#"{ systemd = "s3-access-key" }"#),
        ("secret_key", r#"{ systemd = "s3-secret-key" }"#),
    ],
    later: &["spool", "otlp", "ocsf"],
    secret: true,
};

pub(super) const AGENT_LISTEN: TableKeys = TableKeys {
    heading: "[listen]",
    keys: &[("port", "0")],
    later: &["address"],
    secret: false,
};

pub(super) const AGENT_CONTROL: TableKeys = TableKeys {
    heading: "[control]",
    keys: &[("socket", r#""/run/tollgate/control.sock""#)],
    later: &["group"],
    secret: false,
};

pub(super) const AGENT_RESOLVE: TableKeys = TableKeys {
    heading: "[resolve]",
    keys: &[("interval", r#""5s""#)],
    later: &["server"],
    secret: false,
};

pub(super) const AGENT_CONTAINERS: TableKeys = TableKeys {
    heading: "[containers]",
    keys: &[
        ("docker", r#""/run/docker.sock""#),
        ("podman", r#""/run/podman/podman.sock""#),
    ],
    later: &[],
    secret: false,
};

/// Every table, in the order of the reference.
pub(super) const ALL: &[&TableKeys] = &[
    &ROOT,
    &WORKLOAD,
    &CONTAINER,
    &DNS,
    &FINDINGS,
    &IDENTITY,
    &OIDC,
    &SAML,
    &CLAIM,
    &DENY,
    &TOKEN,
    &SERVICE,
    &TLS,
    &CREDENTIAL,
    &INJECT,
    &PLACEHOLDER,
    &ADMIN,
    &VAULT,
    &VAULT_AUTH,
    &VAULT_ENGINE,
    &AWS_KEYS,
    &SOURCE_SPEC,
    &MASK,
    &CONSTANT,
    &RULE,
    &CONDITION,
    &GRAPHQL,
    &LIMITS,
    &AGENT,
    &AGENT_RECORD,
    &AGENT_SHIP,
    &AGENT_LISTEN,
    &AGENT_CONTROL,
    &AGENT_RESOLVE,
    &AGENT_CONTAINERS,
];

#[cfg(test)]
mod tests {
    use super::ALL;

    /// The part of the reference below the heading that names the table.
    fn section<'a>(reference: &'a str, heading: &str) -> &'a str {
        let start = reference
            .lines()
            .find(|line| line.starts_with('#') && line.contains(&format!("`{heading}`")))
            .unwrap_or_else(|| panic!("docs/policy-reference.md has no heading for {heading}"));
        let (_, rest) = reference.split_once(start).unwrap();
        rest.split("\n#").next().unwrap()
    }

    #[test]
    fn the_reference_describes_every_key() {
        let reference = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/policy-reference.md"
        ))
        .unwrap();
        for table in ALL {
            let section = section(&reference, table.heading);
            for (key, _) in table.keys {
                assert!(
                    section.contains(&format!("| `{key}` |")),
                    "the section on {} does not describe {key}",
                    table.heading
                );
            }
        }
    }

    #[test]
    fn no_key_is_both_there_and_for_later() {
        for table in ALL {
            for (key, _) in table.keys {
                assert!(!table.later.contains(key), "{key} of {}", table.heading);
            }
        }
    }
}
