//! The examples of docs/identity.md, against tokens of the shape that each system gives.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::test_issuer::{TestIssuer, key, token};
use super::{Now, TokenError, TokenVerifier};
use crate::config::{IdentitySpec, parse_policy};

/// The `[identity]` of a chapter of docs/identity.md.
pub(super) fn example(chapter: &str, issuer: &str) -> IdentitySpec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/identity.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once(&format!("\n## {chapter}\n")).unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    let (identity, _) = rest.split_once("```").unwrap();
    let policy = format!("[workload]\nname = \"w\"\ncgroup = [\"/w\"]\n{identity}");
    let spec = parse_policy(Path::new("docs/identity.md"), &policy)
        .unwrap()
        .identity;
    IdentitySpec {
        issuer: issuer.to_owned(),
        ca: None,
        ..spec.unwrap()
    }
}

/// Name of the chapter, a token's own claims, and what somebody else's token of the same issuer has instead.
fn shapes() -> Vec<(&'static str, Value, Vec<(&'static str, Value)>)> {
    vec![
        (
            "GitLab CI",
            json!({
                "sub": "project_path:acme/report:ref_type:branch:ref:main",
                "namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": "acme/report",
                "user_id": "1", "user_login": "alice", "user_email": "alice@acme.test", "user_access_level": "owner",
                "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main", "ref_type": "branch",
                "ref_path": "refs/heads/main", "ref_protected": "true", "groups_direct": ["acme"],
                "runner_id": 1, "runner_environment": "self-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
                "project_visibility": "private", "jti": "8a1ecd92-1b3e-4b3e-8d1f-0c6a0b9d5f3e",
            }),
            vec![
                ("project_path", json!("acme/reports")),
                ("ref_protected", json!("false")),
                ("ref", json!("release/1/2")),
            ],
        ),
        (
            "GitHub Actions",
            json!({
                "sub": "repo:acme/report:ref:refs/heads/main", "jti": "f7e1a1c5", "ref": "refs/heads/main",
                "sha": "714a629c", "repository": "acme/report", "repository_owner": "acme", "repository_owner_id": "12",
                "run_id": "99", "run_number": "10", "run_attempt": "2", "repository_visibility": "private",
                "repository_id": "74", "actor_id": "12", "actor": "alice", "workflow": "report", "head_ref": "", "base_ref": "",
                "event_name": "workflow_dispatch", "ref_protected": "true", "ref_type": "branch",
                "job_workflow_ref": "acme/report/.github/workflows/report.yml@refs/heads/main",
                "runner_environment": "self-hosted",
            }),
            vec![
                ("repository", json!("mallory/report")),
                ("ref", json!("refs/pull/7/merge")),
                (
                    "job_workflow_ref",
                    json!("acme/report/.github/workflows/other.yml@refs/heads/main"),
                ),
            ],
        ),
        (
            "Kubernetes service accounts",
            json!({
                "sub": "system:serviceaccount:prod:backup", "jti": "b2a8", "aud": ["tollgate"],
                "kubernetes.io": {
                    "namespace": "prod", "node": {"name": "n-1", "uid": "1"}, "pod": {"name": "backup-7x", "uid": "2"},
                    "serviceaccount": {"name": "backup", "uid": "3"}, "warnafter": 1_700_003_607,
                },
            }),
            vec![
                (
                    "kubernetes.io",
                    json!({"namespace": "dev", "serviceaccount": {"name": "backup"}}),
                ),
                (
                    "kubernetes.io",
                    json!({"namespace": "prod", "serviceaccount": {"name": "default"}}),
                ),
                ("kubernetes.io", json!("prod")),
            ],
        ),
        (
            "SPIFFE",
            json!({"sub": "spiffe://acme.test/ns/prod/sa/backup", "aud": ["tollgate"]}),
            vec![
                ("sub", json!("spiffe://acme.test/ns/prod/sa/backup2")),
                ("sub", json!("spiffe://evil.test/ns/prod/sa/backup")),
            ],
        ),
    ]
}

#[tokio::test]
async fn the_examples_of_the_documentation_take_their_tokens_and_no_others() {
    let issuer = TestIssuer::start();
    let verifier = TokenVerifier::new();
    let now = Now {
        wall: SystemTime::now(),
        steady: Instant::now(),
    };
    let seconds = now.wall.duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (chapter, own, others) in shapes() {
        let spec = example(chapter, &issuer.url);
        let mut claims = json!({"iss": issuer.url, "aud": "tollgate", "iat": seconds, "nbf": seconds, "exp": seconds + 300});
        for (name, value) in own.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let good = verifier
            .verify_at(&token("one", &key(1), &claims), &spec, now)
            .await;
        assert_eq!(good.unwrap().subject, own["sub"], "{chapter}");
        for (name, value) in others {
            let mut claims = claims.clone();
            claims[name] = value.clone();
            let error = verifier
                .verify_at(&token("one", &key(1), &claims), &spec, now)
                .await
                .unwrap_err();
            assert!(
                matches!(error, TokenError::Claim { .. }),
                "{chapter} {name} {value}: {error}"
            );
        }
    }
}
