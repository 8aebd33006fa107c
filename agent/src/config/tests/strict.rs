use proptest::prelude::*;

use super::{GOOD, parse, with};

/// The lines that the author reads.
pub(super) fn errors(text: &str) -> Vec<String> {
    parse(text)
        .expect_err("the policy has to be refused")
        .to_string()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_mistake_is_named_with_place_and_remedy() {
    let cases: &[(&str, &str, &[&str])] = &[
        // The line changed, what it became, what the message has to say.
        (
            "name = \"ci",
            "nam = \"ci-report\"",
            &[
                "p.toml:2:1: unknown key \"nam\" in [workload]",
                "did you mean \"name\"?",
            ],
        ),
        (
            "egress",
            "mode = \"enforced\"",
            &[
                "p.toml:4:9: \"enforced\" is no value of \"mode\"",
                "did you mean \"enforce\"?",
            ],
        ),
        (
            "egress",
            "egress = true",
            &["p.toml:4:10: \"egress\" has to be a text, not true or false"],
        ),
        (
            "egress",
            "verdict = \"deny\"",
            &["\"verdict\" is a key of [[service.rule]]"],
        ),
        ("egress", "record = \"x\"", &["not supported in this version"]),
        (
            "address",
            "address = [\"db.acme.test:5432\"]\ntls = { client = \"plain\" }",
            &["\"client\" is for http services"],
        ),
        (
            "egress",
            "require = [\"lms\"]",
            &[
                "p.toml:4:13: \"lms\" is nothing that a policy can require",
                "[\"lsm\"]",
            ],
        ),
        (
            "egress",
            "require = \"lsm\"",
            &["\"require\" has to be a list, not a text"],
        ),
        (
            "cgroup",
            "cgroup = []",
            &["p.toml:3:10:", "empty list", "name at least one"],
        ),
        (
            "cgroup",
            "cgroup = \"/a\"",
            &["has to be a list, not a text", "put it in brackets"],
        ),
        (
            "address",
            "unix = [\"run/x\"]",
            &["\"run/x\" is no path of a unix socket", "from /"],
        ),
        (
            "address",
            "unix = [\"/run//x\"]",
            &["\"/run//x\" is no path of a unix socket"],
        ),
        (
            "address",
            "unix = [\"@pg\"]",
            &["a name without a file", "listen on a path"],
        ),
        ("address", "unix = []", &["\"address\""]),
        (
            "cgroup",
            "cgroup = [\"a.slice\"]",
            &["p.toml:3:12:", "does not start with \"/\""],
        ),
        ("cgroup", "cgroup = [\"/a/[x\"]", &["\"[\" without its \"]\""]),
        (
            "cgroup",
            "cgroup = [\"/{a,b}\"]",
            &["one pattern for each alternative"],
        ),
        ("cgroup", "cgroup = [\"/\"]", &["the whole host"]),
        ("cgroup", "cgroup = [\"/a\", \"/a\"]", &["given twice"]),
        (
            "cgroup",
            "",
            &[
                "says of no cgroup that it is the workload's",
                "add a line such as cgroup = [\"/actions.slice",
            ],
        ),
        (
            "name = \"orders",
            "name = \"Orders DB\"",
            &["cannot be a name", "lower-case letters"],
        ),
        (
            "protocol",
            "protocol = \"postgre\"",
            &["p.toml:8:13:", "did you mean \"postgres\"?"],
        ),
        (
            "protocol",
            "protocol = \"mysql\"",
            &["\"mysql\" is not supported in this version"],
        ),
        (
            "address",
            "address = [\"db.acme.test\"]",
            &["has no port", "db.acme.test:5432"],
        ),
        (
            "address",
            "address = [\"db.acme.test:0\"]",
            &["\"0\" is no port", "from 1 to 65535"],
        ),
        (
            "address",
            "address = [\"10.0.4.7/24:5432\"]",
            &["did you mean \"10.0.4.0/24\", or \"10.0.4.7\" alone?"],
        ),
        (
            "address",
            "address = [\"*.acme.test:5432\"]",
            &["is a pattern", "name each host"],
        ),
        (
            "address",
            "tls = { upstream = \"verify\" }",
            &["[[service]] has no \"address\"", "\"verify\" is no value"],
        ),
        (
            "source",
            "source = \"client\"",
            &[
                "source \"client\" is not supported in this version",
                "file, env, systemd, age, exec",
            ],
        ),
        (
            "source",
            "source = \"file\"\nshare = \"session\"",
            &["\"share\" belongs to source = \"exec\", and has no effect here"],
        ),
        (
            "source",
            "source = \"postgres-role\"",
            &[
                "\"user\" belongs to source = \"file\"",
                "\"password\" belongs to source = \"file\"",
                "has no \"admin\"",
                "has no \"grant\"",
            ],
        ),
        ("user", "", &["has no \"user\"", "user = \"report_ro\""]),
        (
            "password",
            "password = { file = \"/x\" }",
            &["this is a path and no table"],
        ),
        (
            "effects",
            "effects = []",
            &["p.toml:18:11:", "name at least one effect"],
        ),
        ("effects", "effects = [\"reed\"]", &["did you mean \"read\"?"]),
        (
            "effects",
            "effects = [\"read\", 7]",
            &["has to be a text, not a whole number"],
        ),
        (
            "effects",
            "effects = [\"read\"]\ntables = []",
            &["leave the key out to mean any object"],
        ),
        (
            "effects",
            "effects = [\"read\"]\ntables = [\"a.b.c\"]",
            &["too many parts"],
        ),
        (
            "effects",
            "effects = [\"read\"]\ntables = [\"pub*lic.**\"]",
            &["which is for paths"],
        ),
        (
            "effects",
            "effects = [\"read\"]\nschemas = [\"x\"]",
            &["\"schemas\" in [[service.rule]] is not supported"],
        ),
        (
            "verdict",
            "verdict = \"approve\"",
            &["an approve rule has no approvers", "approvers = [\"dba\"]"],
        ),
        (
            "verdict",
            "verdict = \"approve\"\napprovers = []",
            &["nobody could approve"],
        ),
        (
            "verdict",
            "verdict = \"approve\"\napprovers = [\"a\"]\ntimeout = \"2 weeks\"",
            &["is no duration", "1h30m"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\nhint = \"x\"",
            &["p.toml:20:1:", "verdict = \"deny\" alone"],
        ),
        (
            "verdict",
            "verdict = \"deny\"\napprovers = [\"a\"]",
            &["verdict = \"approve\" alone"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[service.limits]\nbytes = \"2gib\"",
            &["is no size", "did you mean \"GiB\"?"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[service.limits]\nrows = 0",
            &["out of range"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[[service.mask]]\ncolumns = [\"email\"]\nwith = \"null\"",
            &["\"*.email\""],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[[service.mask]]\ndetect = [\"iban\"]\nwith = \"null\"",
            &["detect \"iban\" is not supported"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[[service.mask]]\ndetect = [\"card\"]\nwith = \"tokenize\"",
            &["\"tokenize\" is not supported"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[[service.mask]]\nwith = \"null\"",
            &["says not what it masks"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[[service.mask]]\nkeys = [\"email\"]\nwith = \"null\"",
            &[
                "p.toml:21:1: \"keys\" is for services of HTTP",
                "write columns = [",
            ],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[[service.mask]]\njson = [\"$.a[?@.b]\"]\nheaders = [\"Content-Length\"]\nwith = \"null\"",
            &[
                "a mask has both \"json\" and \"headers\"",
                "has a filter, which cannot be decided while the document is still coming in",
                "says how the message is to be read",
            ],
        ),
        (
            "address",
            "address = [\"db.acme.test:5432\"]\nunmasked = [\"image\"]",
            &["\"unmasked\" names kinds of bodies", "\"image\" is no media type"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[[service.rule]]\nname = \"reads\"\neffects = [\"lock\"]\nverdict = \"deny\"",
            &["a second rule"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.oidc]\nissuer = \"http://idp.test\"\naudience = \"t\"\ntoken = { env = \"T\" }",
            &["is not https"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.oidc]\nissuer = \"https://i.test\"\naudience = \"t\"\ntoken = {}",
            &["the token has no source"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.oidc]\nissuer = \"https://i.test\"\naudience = \"t\"\ntoken = { env = \"$T\" }",
            &["without \"$\""],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.oidc]\nissuer = \"https://i.test\"\naudience = \"t\"\ntoken = { env = \"T\" }\nclaims = { a = true }",
            &["\"a\" has to be a text", "double quotes"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.oidc]\nissuer = \"https://i.test\"\naudience = \"t\"\ntoken = { env = \"T\" }\nclaims = { a = [] }",
            &["\"a\" is an empty list", "at least one value"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.oidc]\nissuer = \"https://i.test\"\naudience = \"t\"\ntoken = { env = \"T\" }\nclaims = { a = { equal = \"b\" } }",
            &["unknown key \"equal\"", "did you mean \"equals\""],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.oidc]\nissuer = \"https://i.test\"\naudience = \"t\"\ntoken = { env = \"T\" }\nclaims = { \"/a//b\" = \"c\" }",
            &["no JSON pointer", "every level"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.saml]\nmetadata = \"https://i.test/m?entity=1\"\nentity_id = \"urn:i\"\naudience = \"t\"\ntoken = { env = \"T\" }\nclaims = { a = \"b\" }",
            &["unknown key \"claims\"", "[identity.saml]"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.saml]\nmetadata = \"http://i.test/m\"\nentity_id = \"urn:i\"\naudience = \"t\"\ntoken = { env = \"T\" }",
            &["\"http://i.test/m\" is not https", "loopback"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.saml]\nmetadata = \"https://i.test/m#entity=1\"\nentity_id = \"urn:i\"\naudience = \"t\"\ntoken = { env = \"T\" }",
            &["has a part that an address of metadata cannot have"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.saml]\nmetadata = \"https://i.test/m?entity=1\"\naudience = \"t\"\ntoken = { env = \"T\" }",
            &["[identity.saml] has no \"entity_id\""],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity.saml]\nmetadata = \"https://i.test/m?entity=1\"\nentity_id = \"urn:i\"\naudience = \"t\"\ntoken = { env = \"T\" }\n[identity.oidc]\nissuer = \"https://i.test\"\naudience = \"t\"\ntoken = { env = \"T\" }",
            &["two kinds of identity", "keep [identity.oidc] or [identity.saml]"],
        ),
        (
            "verdict",
            "verdict = \"allow\"\n[identity]\ndeny = []",
            &["does not say how a job proves who it is"],
        ),
        // Text that is not TOML.
        (
            "egress",
            "name = \"again\"",
            &["p.toml:4:1: \"name\" is given twice", "keep one"],
        ),
        (
            "egress",
            "egress = deny",
            &["p.toml:4:10: a text stands without quotes"],
        ),
        ("egress", "egress = \"deny", &["p.toml:4:"]),
        ("[workload]", "[workload", &["p.toml:1:"]),
    ];
    for (line, replacement, wanted) in cases {
        let text = with(line, replacement);
        let read = errors(&text).join("\n");
        for part in *wanted {
            assert!(
                read.contains(part),
                "{replacement:?}\n  wanted: {part}\n  read: {read}"
            );
        }
    }
}

#[test]
fn an_opaque_service_takes_nothing_that_needs_commands() {
    let read = errors(&with("protocol", "protocol = \"opaque\"")).join("\n");
    for part in [
        "a credential cannot be injected",
        "no commands that a rule could judge",
    ] {
        assert!(read.contains(part), "{read}");
    }
    let masked = with(
        "protocol",
        "protocol = \"opaque\"\nmask = [{ detect = [\"card\"], with = \"redact\" }]",
    );
    assert!(
        errors(&masked)
            .join("\n")
            .contains("an opaque service cannot be masked")
    );
}

#[test]
fn a_postgres_service_needs_a_credential() {
    let start = GOOD.find("[service.credential]").unwrap();
    let end = GOOD.find("[[service.rule]]").unwrap();
    let without = format!("{}{}", &GOOD[..start], &GOOD[end..]);
    assert_eq!(
        errors(&without),
        [
            "p.toml:6:1: a postgres service needs a credential: the agent logs in, not the workload; add [service.credential] with source, user and password"
        ]
    );
}

#[test]
fn two_services_share_neither_name_nor_address() {
    let second = &GOOD[GOOD.find("[[service]]").unwrap()..];
    let read = errors(&format!("{GOOD}\n{second}")).join("\n");
    assert!(
        read.contains("a second service has the name \"orders-db\""),
        "{read}"
    );
    let renamed = second.replace("orders-db\"\nprotocol", "other\"\nprotocol");
    let read = errors(&format!("{GOOD}\n{renamed}")).join("\n");
    assert!(
        read.contains("has an address that \"orders-db\" has as well"),
        "{read}"
    );
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_and_in_its_order() {
    let text = r#"[workload]
name = "Ci"
cgroup = ["a", "/b", "/c/"]
colour = "red"

[[service]]
protocol = "mysql"
address = ["x", "y:99999"]

[[service.rule]]
name = "r"
effects = ["fly"]
verdict = "maybe"
"#;
    let places: Vec<String> = errors(text)
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        places,
        [
            "p.toml:2:9:",
            "p.toml:3:12:",
            "p.toml:3:23:",
            "p.toml:4:1:",
            "p.toml:6:1:",
            "p.toml:7:13:",
            "p.toml:8:13:",
            "p.toml:8:18:",
            "p.toml:12:13:",
            "p.toml:13:12:"
        ]
    );
}

#[test]
fn an_empty_file_says_what_is_missing() {
    assert_eq!(
        errors(""),
        ["p.toml:1:1: the policy file has no \"workload\"; add a table [workload]"]
    );
}

#[test]
fn the_drawing_shows_the_line_and_points_at_the_place() {
    let errors = parse(&with("egress", "egress = \"den\"")).unwrap_err();
    let drawn = errors.problems().draw(100, false);
    for part in ["p.toml:4:11", "egress = \"den\"", "did you mean \"deny\"?"] {
        assert!(drawn.contains(part), "{drawn}");
    }
    assert!(!drawn.contains('\u{1b}'), "no colour was asked for");
    assert!(errors.problems().draw(100, true).contains('\u{1b}'));
}

#[test]
fn columns_count_characters() {
    let read = errors(&with(
        "egress",
        "egress = \"deny\"\nmode = \"é\"\n\"ü\".x.\"größe\" = 1\n'ä' = { 'größe' = 1, nam = 1 }",
    ))
    .join("\n");
    assert!(read.contains("p.toml:6:2: unknown key \"ü\""), "{read}");
    assert!(read.contains("p.toml:7:2: unknown key \"ä\""), "{read}");
}

#[test]
fn a_secret_written_into_the_file_is_not_repeated() {
    for (line, replacement) in [
        ("password", "password = \"hunter2\""),
        ("password", "pasword = \"hunter2\""),
        ("protocol", "protocol = \"postgres\"\npassword = \"hunter2\""),
        ("password", "password = hunter2"),
        ("password", "password = \"hunter2"),
        ("password", "password = { value = \"hunter2\" }"),
        ("source", "source = \"vualt\"\npasswort = \"hunter2\""),
        ("source", "source = \"env\"\ndatabase = \"\""),
        ("source", "source = \"systemd\""),
    ] {
        let text = with(line, replacement);
        let text = if line == "source" {
            text.replace("\"/etc/tollgate/secrets/orders-db\"", "\"hunter2 /\"")
        } else {
            text
        };
        assert!(text.contains("hunter2"));
        let errors = parse(&text).unwrap_err();
        let told = format!("{errors}\n{errors:?}\n{}", errors.problems().draw(100, false));
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn injected_user_names_are_in_no_debug_text() {
    let policy = parse(GOOD).unwrap();
    assert!(!format!("{policy:?}").contains("report_ro"));
    let errors = parse(&with("egress", "egress = 1")).unwrap_err();
    assert!(!format!("{errors:?} {errors}").contains("report_ro"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    /// Whatever a file holds, the decoder ends with a policy or with errors that can be shown.
    #[test]
    fn a_damaged_policy_never_panics(
        at in 0usize..GOOD.len(),
        cut in 0usize..40,
        insert in prop::sample::select(vec![
            "", "[", "]", "[[", "=", "\"", "{", "}", ".", "\n", "\u{0}", "é", "a.b = 1\n", "[service]\n",
            "[[service.credential]]\n", "[workload.name]\n", "1e9", "-", "'''", "\\u00e9", "[[workload]]\n",
            "[identity]\noidc = 1\n", "service = 1\n", "2001-01-01",
        ]),
    ) {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{insert}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(errors) = parse(&text) {
            prop_assert!(errors.to_string().starts_with("p.toml"));
            prop_assert!(!errors.problems().draw(80, false).is_empty());
        }
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(text in "[\\[\\]a-z=\"{}.,'\n #0-9é-]{0,80}") {
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.problems().draw(80, false).is_empty());
        }
    }
}
