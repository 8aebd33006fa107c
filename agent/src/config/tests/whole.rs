use std::time::Duration;

use super::super::*;
use super::{GOOD, parse};
use crate::model::{Effect, RuleName};

#[test]
fn a_whole_policy_gives_its_values() {
    let policy = parse(
        r#"
[workload]
name   = "ci-report"
cgroup = ["/actions.slice/report-*.service", "/x.slice/**"]
mode   = "observe"
egress = "observe"

[identity.oidc]
issuer   = "https://gitlab.acme.test"
audience = "tollgate"
token    = { file = "/run/job/token" }
claims   = { project_path = "acme/*", ref_protected = "true", ref = ["main", "v/*"], "/kubernetes.io/namespace" = { equals = "a*b" } }
offline  = "10m"
ca       = "/etc/tollgate/acme-ca.pem"
leeway   = "1m"

[[service]]
name     = "orders-db"
protocol = "postgres"
address  = ["DB.acme.test.:5432", "10.0.4.0/24:5433", "[2001:db8::/32]:5434", "10.1.2.3:1"]
tls      = { upstream = "require", ca = "/ca.pem", server_name = "db.acme.test" }

[service.credential]
source   = "env"
user     = { systemd = "orders-user" }
password = "ORDERS_PASSWORD"
database = "orders"

[[service.mask]]
columns = ["customers.email", "*.card_number", "crm.people.name"]
with    = { constant = "(hidden)" }

[[service.mask]]
detect = ["private-key", "jwt"]
with   = "redact"

[[service.rule]]
name          = "no wipes"
effects       = ["delete", "modify"]
tables        = ["orders", "audit.*"]
without_where = true
verdict       = "deny"
hint          = "name the rows"

[[service.rule]]
name      = "changes"
effects   = ["delete"]
verdict   = "approve"
approvers = ["dba", "root"]

[[service.rule]]
name      = "functions"
effects   = ["procedural"]
functions = ["reporting.*", "refresh"]
verdict   = "allow"

[service.limits]
rows    = 5_000_000
bytes   = "2GiB"
session = "1h30m"

[[service]]
name     = "feed"
protocol = "opaque"
address  = ["feed.acme.test:9000"]
"#,
    )
    .unwrap();
    assert_eq!(policy.hash.len(), 64);
    assert_eq!(policy.workload.name.as_str(), "ci-report");
    assert_eq!(policy.workload.selectors.len(), 2);
    assert_eq!(policy.workload.mode, Mode::Observe);
    assert_eq!(policy.workload.egress, Egress::Observe);

    let identity = policy.identity.unwrap();
    assert_eq!(identity.token, TokenSource::File("/run/job/token".into()));
    let asks = |name: &str, value: &str| {
        let rule = identity.claims.iter().find(|rule| rule.claim.as_str() == name);
        rule.unwrap().matches(value)
    };
    assert!(asks("project_path", "acme/report") && !asks("project_path", "acme/a/b"));
    assert!(asks("ref", "main") && asks("ref", "v/1") && !asks("ref", "dev"));
    assert!(asks("/kubernetes.io/namespace", "a*b") && !asks("/kubernetes.io/namespace", "axb"));
    assert_eq!(identity.offline, Duration::from_mins(10));
    assert_eq!(identity.leeway, Duration::from_mins(1));

    let [orders, feed] = policy.services.as_slice() else {
        panic!("two services");
    };
    let hosts: Vec<String> = orders.addresses.iter().map(|e| format!("{:?}", e.host)).collect();
    assert_eq!(
        hosts,
        [
            "Name(\"db.acme.test\")",
            "Net(10.0.4.0/24)",
            "Net(2001:db8::/32)",
            "Net(10.1.2.3/32)"
        ]
    );
    assert_eq!(orders.tls.upstream, TlsMode::Require);
    let credential = orders.credential.as_ref().unwrap();
    assert_eq!(
        credential.kind,
        CredentialKind::Static {
            user: SourceSpec::Systemd("orders-user".into()),
            password: SourceSpec::Env("ORDERS_PASSWORD".into()),
        }
    );
    assert_eq!(credential.database.as_deref(), Some("orders"));
    assert_eq!(
        orders.masks[0].operator,
        MaskOperator::Constant("(hidden)".into())
    );
    let MaskTarget::Columns(columns) = &orders.masks[0].target else {
        panic!("columns");
    };
    assert_eq!(
        (columns[0].schema.as_str(), columns[2].schema.as_str()),
        ("*", "crm")
    );
    assert!(
        matches!(&orders.masks[1].target, MaskTarget::Detect(d) if *d == [Detector::PrivateKey, Detector::Jwt])
    );
    assert_eq!(orders.rules[0].name, RuleName::from("no wipes"));
    assert_eq!(orders.rules[0].effects, [Effect::Delete, Effect::Modify]);
    assert_eq!(orders.rules[0].without_where, Some(true));
    assert_eq!(orders.rules[0].tables[0].schema, "public");
    assert_eq!(orders.rules[0].tables[1].schema, "audit");
    assert_eq!(
        orders.rules[0].verdict,
        RuleVerdict::Deny {
            hint: Some("name the rows".into())
        }
    );
    assert_eq!(
        orders.rules[1].verdict,
        RuleVerdict::Approve {
            approvers: vec!["dba".into(), "root".into()],
            timeout: Duration::from_mins(10)
        }
    );
    assert_eq!(orders.rules[2].functions.len(), 2);
    assert_eq!(
        orders.limits,
        Limits {
            rows: Some(5_000_000),
            bytes: Some(2 << 30),
            duration: Some(Duration::from_mins(90))
        }
    );
    assert_eq!(feed.protocol, Protocol::Opaque);
    assert!(feed.credential.is_none());
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let policy = parse(&GOOD.replace("egress = \"deny\"\n", "")).unwrap();
    assert_eq!(policy.workload.mode, Mode::Enforce);
    assert_eq!(policy.workload.egress, Egress::Allow);
    assert!(policy.identity.is_none());
    let service = &policy.services[0];
    assert_eq!(service.tls.upstream, TlsMode::VerifyFull);
    assert!(service.masks.is_empty());
    assert_eq!(service.limits, Limits::default());
    assert_eq!(
        service.credential.as_ref().unwrap().kind,
        CredentialKind::Static {
            user: SourceSpec::Literal("report_ro".into()),
            password: SourceSpec::File("/etc/tollgate/secrets/orders-db".into()),
        }
    );
}

#[test]
fn an_identity_can_be_a_saml_assertion() {
    let saml = r#"
[identity.saml]
metadata   = "https://idp.acme.test/metadata?entity=https%3A%2F%2Fidp"
entity_id  = "https://idp.acme.test"
audience   = "tollgate"
recipient  = "https://tollgate.acme.test/jobs"
token      = { env = "ASSERTION" }
attributes = { "urn:oid:2.5.4.11" = ["billing", "audit-*"], "/not/a/pointer" = "x" }
"#;
    let identity = parse(&format!("{GOOD}{saml}")).unwrap().identity.unwrap();
    assert_eq!(
        identity.proof,
        Proof::Saml(SamlSpec {
            metadata: "https://idp.acme.test/metadata?entity=https%3A%2F%2Fidp".into(),
            recipient: Some("https://tollgate.acme.test/jobs".into()),
            detached: false,
        })
    );
    assert_eq!(identity.issuer, "https://idp.acme.test");
    assert_eq!(identity.offline, Duration::from_hours(1));
    let unit = identity
        .claims
        .iter()
        .find(|rule| rule.claim == ClaimName::Top("urn:oid:2.5.4.11".into()))
        .unwrap();
    assert!(unit.matches("audit-7") && !unit.matches("payroll"));
    let pointer = ClaimName::Top("/not/a/pointer".into());
    assert!(identity.claims.iter().any(|rule| rule.claim == pointer));

    let bare = saml.replace("recipient  = \"https://tollgate.acme.test/jobs\"\n", "");
    let identity = parse(&format!("{GOOD}{bare}")).unwrap().identity.unwrap();
    assert!(matches!(
        identity.proof,
        Proof::Saml(SamlSpec { recipient: None, .. })
    ));
    let beside = format!("{bare}detached = true\n");
    let identity = parse(&format!("{GOOD}{beside}")).unwrap().identity.unwrap();
    assert!(matches!(
        identity.proof,
        Proof::Saml(SamlSpec { detached: true, .. })
    ));
}

#[test]
fn the_shipped_policies_are_right() {
    for name in ["api-client", "ci-report", "gitlab-docker-job", "nightly-backup"] {
        let path = format!("{}/../policies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let policy = load_policy(path.as_ref()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(policy.workload.name.as_str(), name);
        assert_eq!(policy.workload.egress, Egress::Deny);
    }
    let dir = format!("{}/../policies", env!("CARGO_MANIFEST_DIR"));
    let together = load_policies(dir.as_ref());
    assert!(together.len() >= 3);
    assert!(together.iter().all(Result::is_ok), "{together:?}");
}
