use std::fs;

use super::super::{load_policies, load_policy};
use super::GOOD;

fn policy(name: &str, cgroup: &str) -> String {
    GOOD.replace("ci-report", name)
        .replace("/actions.slice/report-*.service", cgroup)
}

#[test]
fn a_directory_is_read_in_order_and_only_toml() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("20-b.toml"), policy("b", "/b.slice")).unwrap();
    fs::write(dir.path().join("10-a.toml"), policy("a", "/a.slice")).unwrap();
    fs::write(dir.path().join(".a.toml"), "half a file of an editor").unwrap();
    fs::write(dir.path().join("README"), "not a policy").unwrap();
    let names: Vec<String> = load_policies(dir.path())
        .into_iter()
        .map(|loaded| loaded.unwrap().workload.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn one_bad_file_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.toml"), "[workload]\nname = 7").unwrap();
    fs::write(dir.path().join("b.toml"), policy("b", "/b.slice")).unwrap();
    let loaded = load_policies(dir.path());
    assert!(loaded[0].is_err());
    assert!(loaded[1].is_ok());
}

#[test]
fn workloads_and_cgroups_belong_to_one_file() {
    for (second, wanted) in [
        (policy("a", "/b.slice"), "b.toml:2:9: the workload \"a\" is in "),
        (
            policy("b", "/a.slice/*-9"),
            "b.toml:3:12: \"/a.slice/*-9\" can match the same cgroup",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.toml"), policy("a", "/a.slice/job-*")).unwrap();
        fs::write(dir.path().join("b.toml"), second).unwrap();
        let loaded = load_policies(dir.path());
        assert!(loaded[0].is_ok());
        let told = loaded[1].as_ref().unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
        assert!(told.contains("a.toml"), "{told}");
    }
}

#[test]
fn two_names_with_one_number_are_told_apart_by_their_author() {
    // Numbers have 32 bits, so among some 80,000 names two have the same.
    let mut names = std::collections::HashMap::new();
    let (one, other) = (0..)
        .find_map(|n| {
            let name = format!("w{n}");
            let number = crate::model::PolicyId::of(&name.as_str().into());
            names.insert(number, name.clone()).map(|other| (name, other))
        })
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.toml"), policy(&one, "/a.slice")).unwrap();
    fs::write(dir.path().join("b.toml"), policy(&other, "/b.slice")).unwrap();
    let loaded = load_policies(dir.path());
    assert!(loaded[0].is_ok());
    let told = loaded[1].as_ref().unwrap_err().to_string();
    assert!(
        told.contains("b.toml:2:9: ") && told.contains("same number"),
        "{told}"
    );
}

#[test]
fn nested_cgroups_are_no_overlap() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.toml"), policy("a", "/a.slice")).unwrap();
    fs::write(dir.path().join("b.toml"), policy("b", "/a.slice/b-*")).unwrap();
    assert!(load_policies(dir.path()).iter().all(Result::is_ok));
}

#[test]
fn what_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    let told = |path: &std::path::Path| load_policy(path).unwrap_err().to_string();
    assert!(told(&path).contains("cannot be read: No such file"));
    fs::write(&path, b"[workload]\nname = \"\xff\"").unwrap();
    assert!(told(&path).contains("line 2 is not UTF-8"));
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(told(&path).contains("larger than 1 MiB"));
    let missing = load_policies(&dir.path().join("none"));
    assert!(
        missing[0]
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("the directory cannot be read")
    );
}
