use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{ContainerSpec, LabelRule, container_at, container_in, unit_of, user_unit_of};
use crate::config::claim::ClaimValue;
use crate::config::tests::{parse, with};
use crate::config::{PolicyDoc, load_policy_files};
use crate::model::{Container, ContainerEngine};

fn policy(selects: &str) -> PolicyDoc {
    parse(&with("cgroup", selects)).unwrap_or_else(|error| panic!("{selects}: {error}"))
}

const DOCKER: Option<ContainerEngine> = Some(ContainerEngine::Docker);
const PODMAN: Option<ContainerEngine> = Some(ContainerEngine::Podman);
const OCI: Option<ContainerEngine> = Some(ContainerEngine::Oci);

fn id() -> String {
    "0123456789abcdef".repeat(4)
}

#[test]
fn systemd_s_paths_are_taken_apart_as_systemd_puts_them_together() {
    let user = "/user.slice/user-1000.slice/user@1000.service";
    for (path, unit, user_unit) in [
        ("/system.slice/backup@db.service", Some("backup@db.service"), None),
        (
            r"/system.slice/system-backup.slice/backup@var-lib\x2dx.service/worker",
            Some(r"backup@var-lib\x2dx.service"),
            None,
        ),
        ("/ci.slice/ci-heavy.slice/run-1.scope", Some("run-1.scope"), None),
        // What the kernel keeps for itself has a mark.
        ("/system.slice/_cpu.service", Some("cpu.service"), None),
        ("/_cpu.slice/_memory.x.service/a", Some("memory.x.service"), None),
        ("/system.slice/__x.service", Some("_x.service"), None),
        // What a service makes below itself is its own to name.
        (
            "/system.slice/job.service/backup@db.service",
            Some("job.service"),
            None,
        ),
        ("/init.scope", Some("init.scope"), None),
        ("/a.service", Some("a.service"), None),
        ("/docker/backup.service", None, None),
        ("/system.slice", None, None),
        ("/system.slice/a b.service", None, None),
        ("/.service", None, None),
        ("/", None, None),
        ("", None, None),
        ("relative.service", None, None),
        (user, Some("user@1000.service"), None),
        (
            &format!("{user}/app.slice/app-nightly.slice/nightly.service/x"),
            Some("user@1000.service"),
            Some("nightly.service"),
        ),
        (
            &format!("{user}/init.scope"),
            Some("user@1000.service"),
            Some("init.scope"),
        ),
        (
            "/system.slice/user@1000.service/nightly.service",
            Some("user@1000.service"),
            None,
        ),
        (
            "/user.slice/user-1000.slice/session-3.scope",
            Some("session-3.scope"),
            None,
        ),
    ] {
        assert_eq!(unit_of(path).map(|(unit, _)| unit).as_deref(), unit, "{path}");
        assert_eq!(
            user_unit_of(path).map(|(unit, _)| unit).as_deref(),
            user_unit,
            "{path}"
        );
    }
}

#[test]
fn selectors_select_the_cgroup_of_the_unit_itself() {
    for (selects, matching, other) in [
        (
            r#"unit = ["backup@*.service"]"#,
            vec![
                "/system.slice/backup@1.service",
                "/a.slice/a-b.slice/backup@.service",
            ],
            vec![
                "/system.slice/backup@1.service/x",
                "/system.slice/x.service/backup@1.service",
                "/docker/backup@1.service",
                "/system.slice/backup@1.timer",
            ],
        ),
        (
            r#"unit = ["cpu.service", "_x.scope"]"#,
            vec!["/_cpu.service", "/s.slice/cpu.service", "/__x.scope"],
            vec!["/_x.scope", "/x.scope", "/__cpu.service"],
        ),
        (
            r"unit = ['backup@a\x2db.service']",
            vec![r"/system.slice/backup@a\x2db.service"],
            vec![
                "/system.slice/backup@ax2db.service",
                "/system.slice/backup@a-b.service",
            ],
        ),
        (
            r#"slice = ["ci.slice"]"#,
            vec!["/ci.slice", "/_ci.slice"],
            vec![
                "/ci.slice/ci-a.slice",
                "/ci",
                "/x.service/ci.slice",
                "/ci.slice/x.service",
            ],
        ),
        (
            r#"slice = ["ci-*.slice"]"#,
            vec!["/ci.slice/ci-a.slice", "/ci.slice/ci-a.slice/ci-a-b.slice"],
            vec!["/ci.slice", "/other.slice"],
        ),
        (
            r#"user_unit = ["nightly.service"]"#,
            vec!["/user.slice/user-7.slice/user@7.service/app.slice/nightly.service"],
            vec![
                "/system.slice/nightly.service",
                "/user.slice/user-7.slice/user@7.service/app.slice/x.service/nightly.service",
            ],
        ),
    ] {
        let workload = policy(selects).workload;
        for path in matching {
            assert!(workload.matches(path), "{selects} has to match {path}");
        }
        for path in other {
            assert!(!workload.matches(path), "{selects} must not match {path}");
        }
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (selects, expected) in [
        (r#"unit = ["backup"]"#, "has no kind at its end"),
        (r#"unit = ["backup@*"]"#, "has no kind at its end"),
        (r#"unit = ["ci.slice"]"#, r#"write slice = ["ci.slice"]"#),
        (r#"unit = ["backup.timer"]"#, "no name of this kind of unit"),
        (r#"unit = ["a b.service"]"#, "has a \" \", which no unit has"),
        (r#"unit = ["a/b.service"]"#, "has a \"/\""),
        (
            r#"unit = ["?x.service"]"#,
            "begins with one character that is not named",
        ),
        (r#"slice = ["-.slice"]"#, "whole host"),
        (r#"slice = ["ci.service"]"#, "no name of this kind of unit"),
        ("unit = []", "empty list"),
        ("container = {}", "asks for neither an image nor a label"),
        (
            r#"container = { engine = "lxc", image = ["x"] }"#,
            "\"lxc\" is no value of \"engine\"",
        ),
        ("container = { labels = { a = [] } }", "name at least one value"),
        ("container = { labels = { \"\" = \"x\" } }", "a label has no name"),
        (
            "cgroup = [\"/a\"]\nenvironment = { \"A B\" = \"x\" }",
            "no name of an environment variable",
        ),
        (
            "cgroup = [\"/a\"]\nenvironment = { CI_JOB_TOKEN = \"x\" }",
            "sounds like a secret",
        ),
        (
            "unit = [\"a.service\"]\ncontainer = { image = [\"x\"] }",
            "where containers are is said by \"cgroup\" alone",
        ),
    ] {
        let error = parse(&with("cgroup", selects)).unwrap_err().to_string();
        assert!(error.contains(expected), "{selects}: {error}");
    }
}

#[test]
fn containers_are_known_by_the_names_of_their_cgroups() {
    let id = id();
    for (path, expected) in [
        (format!("/system.slice/docker-{id}.scope"), Some(DOCKER)),
        (format!("/docker/{id}"), Some(DOCKER)),
        (format!("/jobs/{id}"), Some(None)),
        (format!("/machine.slice/libpod-{id}.scope"), Some(PODMAN)),
        (format!("/libpod_parent/libpod-{id}"), Some(PODMAN)),
        (
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{id}.scope"),
            Some(OCI),
        ),
        (
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            Some(OCI),
        ),
        (format!("/kubepods/burstable/pod1/{id}"), Some(OCI)),
        (
            format!("/system.slice/kubepods-pod1.slice:cri-containerd:{id}"),
            Some(OCI),
        ),
        (format!("/machine.slice/libpod-conmon-{id}.scope"), None),
        (format!("/kubepods.slice/crio-conmon-{id}.scope"), None),
        (format!("/system.slice/docker-{}.scope", &id[1..]), None),
        (format!("/system.slice/docker-{}.scope", id.to_uppercase()), None),
        (format!("/system.slice/evil-{id}.scope"), None),
        ("/system.slice/docker.service".to_owned(), None),
    ] {
        let found = container_at(&path);
        assert_eq!(found.as_ref().map(|name| name.engine), expected, "{path}");
        assert!(found.is_none_or(|name| name.id == id), "{path}");
    }
    // A container that makes cgroups may name them as it likes: the outermost counts.
    let other = "f".repeat(64);
    let nested = format!("/system.slice/docker-{id}.scope/libpod-{other}.scope/x");
    assert_eq!(container_in(&nested).unwrap().id, id);
    assert_eq!(container_in("/system.slice/a.service"), None);
}

fn container(image: Option<&str>, labels: &[(&str, &str)]) -> Container {
    Container {
        engine: ContainerEngine::Docker,
        id: id(),
        name: None,
        image: image.map(str::to_owned),
        labels: labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[test]
fn every_thing_that_is_asked_of_a_container_has_to_be_so() {
    let spec = policy(
        r#"container = { engine = "docker", image = ["registry.acme.test/billing/*", "postgres:16"], labels = { "com.docker.compose.project" = "billing", "com.gitlab.gitlab-runner.job.ref" = ["main", "release/*"] } }"#,
    )
    .workload
    .container
    .unwrap();
    let project = ("com.docker.compose.project", "billing");
    let main = ("com.gitlab.gitlab-runner.job.ref", "main");
    let image = Some("registry.acme.test/billing/job:1");
    for (found, expected) in [
        (container(image, &[project, main]), true),
        (container(Some("postgres:16"), &[project, main, ("x", "y")]), true),
        (container(image, &[project, (main.0, "release/1")]), true),
        (container(image, &[project, (main.0, "release/1/2")]), false),
        (container(image, &[project]), false),
        (container(image, &[(project.0, "billing2"), main]), false),
        (container(None, &[project, main]), false),
        (
            container(Some("registry.acme.test/other"), &[project, main]),
            false,
        ),
        (
            container(Some("evil.test/registry.acme.test/billing/x"), &[project, main]),
            false,
        ),
        (
            Container {
                engine: ContainerEngine::Podman,
                ..container(image, &[project, main])
            },
            false,
        ),
    ] {
        assert_eq!(spec.matches(&found), expected, "{found:?}");
    }
}

#[test]
fn selectors_that_may_meet_are_an_error_that_names_both_places() {
    let dir = tempfile::tempdir().unwrap();
    let id = id();
    for (mine, theirs, clash) in [
        (
            r#"unit = ["backup@*.service"]"#,
            r#"unit = ["backup@db.service"]"#,
            true,
        ),
        (
            r#"unit = ["backup@*.service"]"#,
            r#"unit = ["report@*.service"]"#,
            false,
        ),
        (
            r#"unit = ["a.service"]"#,
            r#"cgroup = ["/system.slice/*.service"]"#,
            true,
        ),
        (r#"unit = ["a.service"]"#, r#"cgroup = ["/a.service"]"#, true),
        // Nested: the outermost decides.
        (r#"unit = ["a.service"]"#, r#"slice = ["system.slice"]"#, false),
        (r#"slice = ["ci-*.slice"]"#, r#"slice = ["ci-a.slice"]"#, true),
        (r#"user_unit = ["a.service"]"#, r#"unit = ["a.service"]"#, false),
        (
            "container = { labels = { a = \"x\" } }",
            "container = { labels = { b = \"x\" } }",
            true,
        ),
        (
            "container = { labels = { a = \"x\" } }",
            "container = { labels = { a = [\"y\", \"z*\"], b = \"x\" } }",
            false,
        ),
        (
            "container = { labels = { a = \"x\" } }",
            "container = { labels = { a = { equals = \"x\" } } }",
            true,
        ),
        (
            "container = { engine = \"docker\", labels = { a = \"x\" } }",
            "container = { engine = \"podman\", labels = { a = \"x\" } }",
            false,
        ),
        (
            "container = { image = [\"a/*\"] }",
            "container = { image = [\"b/*\"], labels = { a = \"x\" } }",
            false,
        ),
        (
            "cgroup = [\"/a.slice/*\"]\ncontainer = { labels = { a = \"x\" } }",
            "cgroup = [\"/b.slice/*\"]\ncontainer = { labels = { a = \"x\" } }",
            false,
        ),
        // What a container is goes before where it is.
        (
            "container = { labels = { a = \"x\" } }",
            &format!("cgroup = [\"/system.slice/docker-{id}.scope\"]"),
            false,
        ),
    ] {
        let files = [(mine, "first"), (theirs, "second")].map(|(selects, name)| {
            let path = dir.path().join(format!("{name}.toml"));
            std::fs::write(&path, with("cgroup", selects).replace("ci-report", name)).unwrap();
            path
        });
        let loaded = load_policy_files(&files);
        assert!(loaded[0].is_ok(), "{mine}: {:?}", loaded[0]);
        match (&loaded[1], clash) {
            (Ok(_), false) => {}
            (Err(error), true) => {
                let error = error.to_string();
                assert!(error.contains("second.toml:3:"), "{error}");
                assert!(error.contains("first.toml:3"), "{error}");
                assert!(error.contains("can match the same cgroup"), "{error}");
            }
            (loaded, _) => panic!("{mine} and {theirs}: {loaded:?}"),
        }
    }
}

fn value() -> impl Strategy<Value = ClaimValue> {
    prop_oneof![
        prop::sample::select(vec!["a", "b", "a*", "*", "?", "[ab]", "a/*"])
            .prop_map(|pattern| ClaimValue::like(pattern).unwrap()),
        prop::sample::select(vec!["a", "b", "a*"]).prop_map(|text| ClaimValue::Equals(text.to_owned())),
    ]
}

fn spec() -> impl Strategy<Value = ContainerSpec> {
    let engine = prop::option::of(prop::sample::select(vec![
        ContainerEngine::Docker,
        ContainerEngine::Podman,
    ]));
    let rule = (
        prop::sample::select(vec!["x", "y"]),
        prop::collection::vec(value(), 1..3),
    );
    let labels = prop::collection::vec(rule, 0..3);
    (engine, prop::collection::vec(value(), 0..3), labels).prop_map(|(engine, image, labels)| {
        let labels: BTreeMap<_, _> = labels.into_iter().collect();
        ContainerSpec {
            engine,
            image,
            labels: labels
                .into_iter()
                .map(|(name, any_of)| LabelRule {
                    name: name.to_owned(),
                    any_of,
                })
                .collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_container_is_under_two_policies_that_are_told_apart(
        mine in spec(),
        theirs in spec(),
        image in prop::option::of(prop::sample::select(vec!["a", "b", "a*", "a/b"])),
        labels in prop::collection::btree_map("[xy]", "[ab]\\*?", 0..3),
    ) {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
        let container = container(image, &labels);
        if mine.matches(&container) && theirs.matches(&container) {
            prop_assert!(mine.meets(&theirs) && theirs.meets(&mine));
        }
    }

    #[test]
    fn no_path_is_too_odd(path in "[a-f0-9/._@\\\\:-]{0,80}|/.*") {
        unit_of(&path);
        user_unit_of(&path);
        container_at(&path);
        container_in(&path);
    }
}

#[test]
fn an_example_of_a_selector_is_under_it() {
    let policy = |lines: &str| {
        let text = format!(
            "[workload]\nname = \"w\"\n{lines}\n[[service]]\nname = \"s\"\nprotocol = \"opaque\"\naddress = [\"192.0.2.1:1\"]\n"
        );
        crate::config::parse_policy(std::path::Path::new("w.toml"), &text).unwrap()
    };
    for (lines, example) in [
        (
            r#"cgroup = ["/ci.slice/job-*.service"]"#,
            Some("/ci.slice/job-run-1.service"),
        ),
        (r#"cgroup = ["/ci.slice/**"]"#, Some("/ci.slice/run-1")),
        (r#"cgroup = ["/jobs/backup"]"#, Some("/jobs/backup/run-1")),
        (
            r#"unit = ["backup@*.service"]"#,
            Some("/system.slice/backup@run-1.service"),
        ),
        (
            r#"unit = ["backup.service"]"#,
            Some("/system.slice/backup.service/run-1"),
        ),
        (
            r#"slice = ["ci-jobs.slice"]"#,
            Some("/ci.slice/ci-jobs.slice/run-1"),
        ),
        (r#"cgroup = ["/jobs/[ab]"]"#, None),
        (r#"user_unit = ["backup.service"]"#, None),
    ] {
        let policy = policy(lines);
        let [selector] = policy.workload.selectors.as_slice() else {
            panic!("{lines}");
        };
        assert_eq!(selector.example("run-1").as_deref(), example, "{lines}");
    }
}
