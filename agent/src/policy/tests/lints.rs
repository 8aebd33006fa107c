use super::super::lint;
use super::{document, rule};
use crate::config::{load_policy, parse_policy};

/// The warnings of a policy with these rules, `pointer: message`.
fn warnings(rules: &str) -> Vec<String> {
    lint(&document(rules))
        .into_iter()
        .map(|finding| format!("{}: {}", finding.pointer, finding.message))
        .collect()
}

#[test]
fn surprises_are_warned_of() {
    let reads = rule("reads", "allow", "effects = [\"read\"]");
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "/service/0: service \"db\" has no rule"),
        (
            reads.clone() + &rule("none", "deny", "effects = [\"read\", \"write\"]"),
            "/service/0/rule/0: rule \"reads\" never decides: the deny rule \"none\"",
        ),
        (
            rule("t", "allow", "effects = [\"read\"]\ntables = [\"a.b\"]")
                + &rule("d", "deny", "effects = [\"read\"]\ntables = [\"a.*\"]"),
            "rule \"t\" never decides",
        ),
        (
            reads.clone() + &rule("ask", "approve", "effects = [\"read\"]"),
            "rule \"reads\" never decides: the approve rule \"ask\"",
        ),
        (
            reads.clone() + &rule("again", "allow", "effects = [\"read\"]\ntables = [\"a.b\"]"),
            "/service/0/rule/1: rule \"again\" adds nothing to the allow rule \"reads\"",
        ),
        (
            rule("r", "allow", "effects = [\"read\"]\ntables = [\"a.*\", \"a.b\"]"),
            "/service/0/rule/0/tables/1: \"a.b\" adds nothing to \"a.*\"",
        ),
        (
            rule("r", "allow", "effects = [\"read\"]\ntables = [\"a.b\", \"*.b\"]"),
            "/service/0/rule/0/tables/0: \"a.b\" adds nothing to \"*.b\"",
        ),
        (
            rule("r", "approve", "effects = [\"unknown\"]"),
            "/service/0/rule/0/effects/0: rule \"r\" lets an approver allow \"unknown\"",
        ),
        (
            rule("r", "allow", "effects = [\"read\", \"unsafe_io\"]"),
            "/service/0/rule/0/effects/1: rule \"r\" allows",
        ),
        (
            rule(
                "r",
                "allow",
                "effects = [\"read\", \"transaction\"]\ntables = [\"a\"]",
            ),
            "never matches \"transaction\"",
        ),
        (
            rule("r", "allow", "effects = [\"read\"]\ntables = [\"Orders\"]"),
            "has capital letters",
        ),
        (
            rule("r", "deny", "effects = [\"read\"]\nwithout_where = true"),
            "names neither effect",
        ),
        (
            rule("r", "allow", "effects = [\"bulk_export\"]")
                + "[[service.mask]]\ndetect = [\"card\"]\nwith = \"redact\"",
            "cannot be restored",
        ),
        (
            reads.clone()
                + "[[service.mask]]\ncolumns = [\"*.email\"]\nwith = \"null\"\n[[service.mask]]\ncolumns = [\"people.email\"]\nwith = \"partial\"",
            "/service/0/mask/1/columns/0: \"*.people.email\" never counts",
        ),
        (
            reads + "[service.tls]\nupstream = \"require\"",
            "/service/0/tls: whoever answers",
        ),
    ];
    for (rules, wanted) in cases {
        let found = warnings(&rules);
        assert!(
            found.iter().any(|line| line.contains(wanted)),
            "{rules}\n wanted: {wanted}\n found: {found:#?}"
        );
    }
}

#[test]
fn what_is_narrower_or_other_is_not_warned_of() {
    for rules in [
        rule("r", "allow", "effects = [\"read\"]")
            + &rule("d", "deny", "effects = [\"read\"]\ntables = [\"hr.*\"]"),
        rule("r", "allow", "effects = [\"delete\"]")
            + &rule("d", "deny", "effects = [\"delete\"]\nwithout_where = true"),
        rule("r", "allow", "effects = [\"read\"]\ntables = [\"a.*\"]")
            + &rule("s", "allow", "effects = [\"read\"]\ntables = [\"b.*\"]"),
        rule("r", "approve", "effects = [\"delete\"]")
            + "[[service.rule]]\nname = \"s\"\neffects = [\"delete\"]\ntables = [\"a\"]\nverdict = \"approve\"\napprovers = [\"other\"]",
    ] {
        assert_eq!(warnings(&rules), [""; 0], "{rules}");
    }
}

#[test]
fn workloads_and_addresses_are_looked_at() {
    let found = |text: &str| -> Vec<String> {
        lint(&parse_policy("p.toml".as_ref(), text).unwrap())
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    };
    let all = found("[workload]\nname = \"w\"\ncgroup = [\"/*/x\"]\nmode = \"observe\"").join("\n");
    for part in [
        "may connect to anything",
        "nothing is refused",
        "manages every slice",
        "has no service",
    ] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    let with_tls = |address: &str, tls: &str| {
        found(&format!(
            "[workload]\nname = \"w\"\ncgroup = [\"/x\"]\negress = \"deny\"\n[[service]]\nname = \"s\"\nprotocol = \"postgres\"\naddress = [\"{address}\"]\ntls = {{ {tls} }}\n[service.credential]\nsource = \"env\"\nuser = \"u\"\npassword = \"P\"\n{}",
            rule("r", "allow", "effects = [\"read\"]")
        ))
        .join("\n")
    };
    assert!(with_tls("db.acme.test:1", "upstream = \"disable\"").contains("in clear"));
    assert_eq!(with_tls("127.0.0.1:1", "upstream = \"disable\""), "");
    assert_eq!(with_tls("localhost:1", "upstream = \"require\""), "");
    assert!(with_tls("10.0.0.1:1", "upstream = \"verify-full\"").contains("has to name the IP address"));
    assert!(with_tls("[::1]:1", "upstream = \"require\", ca = \"/x\"").contains("no effect"));
}

#[test]
fn the_shipped_policies_surprise_nobody() {
    for name in ["api-client", "ci-report", "gitlab-docker-job", "nightly-backup"] {
        let path = format!("{}/../policies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(lint(&load_policy(path.as_ref()).unwrap()), [], "{name}");
    }
}
