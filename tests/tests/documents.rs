//! The examples of the documentation are policies: each is read straight from its page, put where a policy has such a table, and
//! checked by `tollgate policy check` itself. And each is run by a test of its own, or it is said here why it is not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tollgate_tests::agent::{binary, workspace};

/// An example, and what runs what it says.
struct Example {
    chapter: &'static str,
    /// Protocol of the service that it is checked with.
    protocol: &'static str,
    /// The example of the chapter that it changes, which is the first; and the keys of that one which go.
    changes: Option<&'static [&'static str]>,
    /// Tests that run it: a file, and a function in it.
    runs: &'static [(&'static str, &'static str)],
    /// What of it no test can run here, and why.
    not_run: Option<&'static str>,
}

const PLAIN: Example = Example {
    chapter: "",
    protocol: "postgres",
    changes: None,
    runs: &[],
    not_run: None,
};

const SHAPES: (&str, &str) = (
    "agent/src/identity/token/shape_tests.rs",
    "the_examples_of_the_documentation_take_their_tokens_and_no_others",
);
const ROLES: &str = "tests/tests/leases.rs";
const NO_RUNNER: &str =
    "the platform itself cannot be had from a registry: its token is made in the shape that it documents";

/// docs/identity.md, in the order of the page.
const IDENTITY: &[Example] = &[
    Example {
        chapter: "GitLab CI",
        runs: &[
            SHAPES,
            (
                "tests/tests/identity.rs",
                "the_right_token_lets_a_job_in_and_every_other_one_does_not",
            ),
        ],
        not_run: Some(NO_RUNNER),
        ..PLAIN
    },
    Example {
        chapter: "GitHub Actions",
        runs: &[SHAPES],
        not_run: Some(NO_RUNNER),
        ..PLAIN
    },
    Example {
        chapter: "Kubernetes service accounts",
        runs: &[SHAPES],
        not_run: Some(NO_RUNNER),
        ..PLAIN
    },
    Example {
        chapter: "SPIFFE",
        runs: &[SHAPES],
        not_run: Some(NO_RUNNER),
        ..PLAIN
    },
    Example {
        chapter: "A job that logs in",
        runs: &[
            SHAPES,
            (
                "tests/tests/identity.rs",
                "a_job_logs_in_for_its_own_cgroup_and_for_no_other",
            ),
        ],
        ..PLAIN
    },
    Example {
        chapter: "SAML",
        runs: &[
            (
                "tests/tests/saml.rs",
                "an_assertion_in_a_file_opens_a_session_and_the_listing_says_whose",
            ),
            (
                "tests/tests/saml.rs",
                "a_sound_assertion_in_a_variable_opens_a_session_and_every_other_one_is_refused",
            ),
        ],
        ..PLAIN
    },
];

/// docs/credentials.md, in the order of the page.
const CREDENTIALS: &[Example] = &[
    Example {
        chapter: "A password in a file",
        runs: &[(
            "tests/tests/secrets.rs",
            "a_password_from_a_file_is_in_no_output_and_in_no_memory_but_for_the_moment_of_the_login",
        )],
        ..PLAIN
    },
    Example {
        chapter: "An encrypted file: `age`",
        runs: &[(
            "tests/tests/age.rs",
            "a_session_has_the_password_that_is_in_the_file_then_and_none_where_it_cannot_be_opened",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A program: `exec`",
        runs: &[(
            "tests/tests/secrets.rs",
            "what_a_program_printed_is_forgotten_when_its_session_ends",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A role for each session: `postgres-role`",
        runs: &[(
            ROLES,
            "a_session_has_a_role_of_its_own_from_its_beginning_to_its_end",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A role for each session: `postgres-role`",
        changes: Some(&[]),
        runs: &[(
            ROLES,
            "a_pool_of_connections_has_one_role_which_goes_with_the_job",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A role for each session: `postgres-role`",
        changes: Some(&[]),
        runs: &[(
            "agent/src/credential/postgres_role/tests.rs",
            "a_role_logs_in_may_what_was_granted_and_is_dropped_with_its_sessions",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A role for each session: `postgres-role`",
        changes: Some(&[]),
        runs: &[(
            "agent/src/credential/postgres_role/tests.rs",
            "what_a_role_owns_in_any_database_goes_to_its_heir",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A user for each session: `mysql-user`",
        protocol: "mysql",
        runs: &[
            (
                "agent/src/credential/mysql_user/tests.rs",
                "a_user_logs_in_may_what_its_role_may_and_is_dropped_with_its_sessions",
            ),
            (
                "tests/tests/sweep.rs",
                "a_mariadb_server_is_swept_of_what_a_dead_host_left_and_of_nothing_else",
            ),
        ],
        not_run: Some("in a session: this version speaks no MySQL"),
        ..PLAIN
    },
    Example {
        chapter: "A certificate for each session: `ssh-ca`",
        protocol: "ssh",
        runs: &[(
            "agent/src/credential/ssh_ca/tests.rs",
            "sshd_runs_the_forced_command_and_gives_no_terminal_and_no_forward_that_is_not_named",
        )],
        not_run: Some("in a session: this version speaks no SSH"),
        ..PLAIN
    },
    Example {
        chapter: "HashiCorp Vault: `vault`",
        runs: &[
            (
                "tests/tests/vault.rs",
                "a_session_logs_in_with_what_vault_made_for_it_and_that_is_gone_afterwards",
            ),
            (
                "tests/tests/vault.rs",
                "a_secret_that_somebody_put_there_is_read_at_each_session_and_a_vault_that_is_not_well_opens_none",
            ),
            (
                "agent/src/credential/vault/tests/given.rs",
                "a_static_role_gives_its_login",
            ),
            (
                "agent/src/credential/vault/tests/certificates.rs",
                "a_session_has_a_key_of_its_own_and_a_certificate_that_ends",
            ),
        ],
        not_run: Some(
            "against a Vault: none can be had from a registry; a double as strict as its documentation stands for it",
        ),
        ..PLAIN
    },
    Example {
        chapter: "A token of an OAuth 2.0 server: `oauth2`",
        runs: &[(
            "tests/tests/oauth2.rs",
            "a_session_logs_in_with_a_token_that_is_void_when_it_has_ended",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A token of an OAuth 2.0 server: `oauth2`",
        changes: Some(&["revocation_endpoint"]),
        runs: &[(
            "agent/src/credential/oauth2/tests/server.rs",
            "a_real_servers_rotating_refresh_token_is_followed_over_restarts",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A token of an OAuth 2.0 server: `oauth2`",
        runs: &[(
            "tests/tests/oauth2.rs",
            "the_token_of_a_job_is_exchanged_for_one_that_the_database_takes",
        )],
        ..PLAIN
    },
    Example {
        chapter: "A GitHub app: `github-app`",
        protocol: "http",
        runs: &[(
            "agent/src/credential/github_app/tests.rs",
            "a_token_is_asked_for_as_the_documentation_says_and_voided_with_itself",
        )],
        not_run: Some("against GitHub: a double of its documentation stands for it"),
        ..PLAIN
    },
    Example {
        chapter: "A role of AWS: `aws`",
        protocol: "http",
        runs: &[(
            "agent/src/credential/aws/tests.rs",
            "the_workloads_token_and_an_access_key_each_assume_a_role_at_a_real_server",
        )],
        not_run: Some("against AWS: moto, a server of somebody else's, stands for it"),
        ..PLAIN
    },
    Example {
        chapter: "Requests of HTTP",
        protocol: "http",
        runs: &[(
            "tests/tests/http_credentials.rs",
            "a_bearer_token_is_the_agents_and_the_jobs_own_is_a_finding",
        )],
        ..PLAIN
    },
];

const PAGES: &[(&str, &[Example])] = &[
    ("docs/identity.md", IDENTITY),
    ("docs/credentials.md", CREDENTIALS),
];

/// The TOML blocks of a page, each with its chapter.
fn blocks(page: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(workspace().join(page)).unwrap();
    let (mut chapter, mut block, mut found) = (String::new(), None::<String>, Vec::new());
    for line in text.lines() {
        match &mut block {
            Some(lines) if line == "```" => {
                found.push((chapter.clone(), std::mem::take(lines)));
                block = None;
            }
            Some(lines) => {
                lines.push_str(line);
                lines.push('\n');
            }
            None if line == "```toml" => block = Some(String::new()),
            None => {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut chapter);
                }
            }
        }
    }
    found
}

fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    (!key.starts_with(['#', '"', '[', '{']) && !key.is_empty()).then_some(key)
}

/// `base` with the lines of `change` instead of its own of the same keys, and without `gone`.
fn changed(base: &str, change: &str, gone: &[&str]) -> String {
    let new: BTreeMap<&str, &str> = change
        .lines()
        .filter_map(|line| Some((key(line)?, line)))
        .collect();
    let kept = base
        .lines()
        .filter(|line| key(line).is_none_or(|key| !new.contains_key(key) && !gone.contains(&key)));
    kept.chain(new.values().copied()).collect::<Vec<_>>().join("\n")
}

/// A whole policy with one example in it.
fn policy(example: &str, protocol: &str) -> String {
    let (identity, credential) = match example.find("[service.credential]") {
        Some(start) => example.split_at(start),
        None => (
            example,
            "[service.credential]\nsource = \"file\"\nuser = \"report\"\npassword = \"/etc/tollgate/secrets/db\"\n",
        ),
    };
    format!(
        "[workload]\nname = \"example\"\ncgroup = [\"/example.slice/*.service\"]\negress = \"deny\"\n\n{identity}\n\
         [[service]]\nname = \"service\"\nprotocol = \"{protocol}\"\naddress = [\"service.acme.test:5432\"]\n\n{credential}\n\
         [[service.rule]]\nname = \"reads\"\neffects = [\"read\"]\nverdict = \"allow\"\n"
    )
}

/// What `tollgate policy check` says of it: nothing, and 0; or that this version does not speak the service's protocol.
fn check(text: &str, protocol: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("example.toml");
    fs::write(&file, text).unwrap();
    let output = Command::new(binary())
        .args(["policy", "check", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let told: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let unspoken = |problem: &Value| {
        protocol != "postgres"
            && problem["message"]
                .as_str()
                .is_some_and(|message| message.contains("is not supported"))
    };
    let (later, other): (Vec<&Value>, Vec<&Value>) = told.iter().partition(|problem| unspoken(problem));
    if !other.is_empty() || later.len() > 1 || output.status.success() != later.is_empty() {
        return Err(format!("{told:#?}\n{text}"));
    }
    Ok(())
}

#[test]
fn every_example_is_a_policy_that_can_be_used() {
    let mut wrong = Vec::new();
    for (page, examples) in PAGES {
        let blocks = blocks(page);
        let chapters = |list: Vec<&str>| list.join("\n");
        // None is missed: an example that is new on the page needs a line here.
        assert_eq!(
            chapters(blocks.iter().map(|(chapter, _)| chapter.as_str()).collect()),
            chapters(examples.iter().map(|example| example.chapter).collect()),
            "{page}"
        );
        for ((chapter, block), example) in blocks.iter().zip(*examples) {
            let text = match example.changes {
                None => block.clone(),
                Some(gone) => {
                    let (_, base) = blocks.iter().find(|(other, _)| other == chapter).unwrap();
                    changed(base, block, gone)
                }
            };
            if let Err(why) = check(&policy(&text, example.protocol), example.protocol) {
                wrong.push(format!("{page}, {chapter}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The page has them in prose and in a table, not in blocks.
#[test]
fn every_engine_and_login_of_a_vault_is_one_that_can_be_used() {
    let page = fs::read_to_string(workspace().join("docs/credentials.md")).unwrap();
    let (_, example) = blocks("docs/credentials.md")
        .into_iter()
        .find(|(chapter, _)| chapter.starts_with("HashiCorp Vault"))
        .unwrap();
    let line = |key: &str| {
        let found = example.lines().find(|line| line.starts_with(key)).unwrap();
        found.to_owned()
    };
    let code = |start: &str| -> Vec<String> {
        let lines = page.lines().filter_map(|line| line.strip_prefix(start));
        lines
            .filter_map(|rest| rest.split_once('`').map(|(code, _)| code.to_owned()))
            .collect()
    };
    let engines: Vec<String> = code("| `{ ").iter().map(|rest| format!("{{ {rest}")).collect();
    assert_eq!(engines.len(), 4, "{engines:?}");
    for engine in &engines {
        // What a key and a certificate are for is not spoken yet.
        let protocol = if engine.contains("ssh") { "ssh" } else { "postgres" };
        let leased = engine.contains("database");
        let text: String = example
            .replace(&line("engine"), &format!("engine = {engine}"))
            .lines()
            .filter(|line| leased || !line.starts_with("max_ttl"))
            .collect::<Vec<_>>()
            .join("\n");
        check(&policy(&text, protocol), protocol).unwrap_or_else(|why| panic!("{engine}: {why}"));
    }
    let logins: Vec<String> = ["token", "jwt"]
        .iter()
        .flat_map(|key| {
            let found = code(&format!("- `{key} = "));
            found.into_iter().map(move |rest| format!("{key} = {rest}"))
        })
        .collect();
    assert_eq!(logins.len(), 2, "{logins:?}");
    let (_, identity) = blocks("docs/identity.md").into_iter().next().unwrap();
    for login in &logins {
        let text = example.replace(&line("auth"), &format!("auth = {{ {login} }}"));
        let text = format!("{identity}\n{text}");
        check(&policy(&text, "postgres"), "postgres").unwrap_or_else(|why| panic!("{login}: {why}"));
    }
}

/// The lines behind `#` in the examples, which say what else can stand there.
#[test]
fn what_an_example_says_can_stand_there_instead_can() {
    let mut tried = 0;
    for (chapter, block) in blocks("docs/credentials.md") {
        let protocol = match chapter.as_str() {
            chapter if chapter.contains("ssh-ca") => "ssh",
            chapter if chapter.contains("github-app") => "http",
            _ => "postgres",
        };
        for line in block.lines() {
            let other = match line.split_once('#') {
                Some(("", other)) => other.trim().split("  ").next().unwrap().to_owned(),
                Some((_, other)) if other.trim().starts_with("or {") => {
                    let alternatives = other
                        .trim()
                        .trim_start_matches("or ")
                        .replace('…', "\"/etc/tollgate/key\"");
                    // The first of several.
                    let end = alternatives.find('}').unwrap();
                    format!("{} = {}", key(line).unwrap(), &alternatives[..=end])
                }
                _ => continue,
            };
            tried += 1;
            let text = changed(&block, &other, &[]);
            check(&policy(&text, protocol), protocol).unwrap_or_else(|why| panic!("{other}: {why}"));
        }
    }
    assert_eq!(tried, 3);
}

#[test]
fn every_example_is_run_by_a_test_or_it_is_said_why_not() {
    for (page, examples) in PAGES {
        for example in *examples {
            assert!(
                !example.runs.is_empty() || example.not_run.is_some(),
                "{page}: {}",
                example.chapter
            );
            for (file, test) in example.runs {
                let text = fs::read_to_string(workspace().join(Path::new(file))).unwrap();
                assert!(
                    text.contains(&format!("fn {test}(")),
                    "{page}: {}: {file} has no test {test}",
                    example.chapter
                );
            }
        }
    }
}

/// The checks above can fail.
#[test]
fn an_example_with_a_mistake_is_refused() {
    let (_, block) = blocks("docs/credentials.md").into_iter().next().unwrap();
    assert!(check(&policy(&block, "postgres"), "postgres").is_ok());
    for wrong in [
        block.replace("password", "pasword"),
        block.replace("\"file\"", "\"fil\""),
    ] {
        assert!(check(&policy(&wrong, "postgres"), "postgres").is_err());
    }
    assert!(check(&policy(&block, "postgre"), "postgres").is_err());
}
