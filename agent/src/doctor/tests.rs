//! The doctor on a real kernel: nothing is bad where nothing is wrong, and each program that does nothing is found out.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::scene::Scene;
use super::{Check, Examination, Launcher, State, Tried, promises, workload};
use crate::config::AgentConfig;
use crate::kernel::testing::{Pins, privileged};
use crate::kernel::{CgroupPattern, Kernel, Patterns, ProxyAddresses, sabotage};
use crate::model::PolicyId;

const ROLE: &str = "TOLLGATE_TEST_DOCTOR_WORKLOAD";

/// This very test program, which does as it is told when it runs the test below.
fn launcher() -> Launcher {
    Launcher {
        program: std::env::current_exe().unwrap(),
        arguments: [
            "--exact",
            "doctor::tests::a_process_ends_when_nobody_tells_it_anything",
        ]
        .map(Into::into)
        .into(),
        environment: vec![(ROLE.into(), "1".into())],
    }
}

#[test]
fn a_process_ends_when_nobody_tells_it_anything() {
    if std::env::var_os(ROLE).is_some() {
        workload::serve().unwrap();
        return;
    }
    let (teller, told) = std::os::unix::net::UnixStream::pair().unwrap();
    let launcher = launcher();
    let mut child = std::process::Command::new(launcher.program)
        .args(launcher.arguments)
        .envs(launcher.environment)
        .stdin(std::os::fd::OwnedFd::from(told))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.try_wait().unwrap().is_none());
    drop(teller);
    assert!(child.wait().unwrap().success());
}

fn bad(checks: &[Check]) -> Vec<(&str, &str)> {
    checks
        .iter()
        .filter(|check| check.state == State::Bad)
        .map(|check| (check.title.as_str(), check.found.as_str()))
        .collect()
}

/// Promises that are kept by programs which stay gone when they are disarmed.
fn lasting() -> impl Iterator<Item = &'static promises::Promise> {
    promises::all().filter(|promise| promise.programs.iter().any(|name| sabotage::is_for_good(name)))
}

/// Those that are broken.
fn red(scene: &mut Scene) -> Vec<&'static str> {
    lasting()
        .filter(|promise| promise.examine(scene).state == State::Bad)
        .map(|promise| promise.title)
        .collect()
}

/// Those that `gone` keep.
fn of_programs(gone: &[&str]) -> Vec<&'static str> {
    lasting()
        .filter(|promise| promise.programs.iter().any(|name| gone.contains(name)))
        .map(|promise| promise.title)
        .collect()
}

#[tokio::test]
async fn a_program_that_does_nothing_is_found_out_and_named() {
    if !privileged() {
        return;
    }
    let pins = Pins::new();
    let (kernel, _events) = Kernel::load(&pins.options()).unwrap();
    let port = tollgate_tests::process::free_port().unwrap();
    kernel
        .set_proxy(ProxyAddresses {
            v4: port,
            v6: port,
            dns: port - 32,
        })
        .unwrap();
    let mut patterns = Patterns::default();
    patterns.add(CgroupPattern::new("/tollgate-test/nothing").unwrap(), PolicyId(1));
    kernel.set_patterns(&patterns).unwrap();
    let config = AgentConfig {
        pin_dir: pins.dir(),
        ..AgentConfig::default()
    };
    let stop = AtomicBool::new(false);
    let examination = Examination {
        config: &config,
        launcher: launcher(),
        stop: &stop,
    };
    let mut scene = Scene::new(&examination, &crate::kernel::trial().unwrap()).unwrap();
    assert_eq!(scene.tried, Tried::StoppedAgent);
    let mut tried = 0;
    let mut gone = Vec::new();
    for program in sabotage::all_programs() {
        if kernel.lacking().iter().any(|lack| lack.program == program) {
            continue;
        }
        let mut attempts = |wanted: Option<State>| -> Vec<Check> {
            promises::all()
                .filter(|promise| promise.programs.contains(&program))
                .map(|promise| promise.examine(&mut scene))
                .filter(|check| wanted.is_none_or(|wanted| check.state == wanted))
                .take(wanted.map_or(usize::MAX, |_| 1))
                .collect()
        };
        assert_eq!(bad(&attempts(None)), [], "{program} does what it should");
        let disarmed = sabotage::disarm(&pins.dir(), program);
        let mut found = attempts(Some(State::Bad));
        // A program that does not hang on a cgroup is run for a moment after its link is gone.
        let since = Instant::now();
        while disarmed.is_none() && found.is_empty() && since.elapsed() < Duration::from_secs(10) {
            found = attempts(Some(State::Bad));
        }
        let found = found
            .first()
            .unwrap_or_else(|| panic!("{program} does nothing, and no check says so"));
        assert!(found.advice.contains(program), "{found:?}");
        drop(disarmed);
        tried += 1;
        if sabotage::is_for_good(program) {
            gone.push(program);
            assert_eq!(red(&mut scene), of_programs(&gone), "{program}");
        }
    }
    assert!(tried >= 9, "{tried}");
}

#[tokio::test]
async fn programs_of_its_own_are_gone_with_the_examination() {
    if !privileged() {
        return;
    }
    let run = tempfile::tempdir().unwrap();
    let config = AgentConfig {
        run_dir: run.path().to_owned(),
        pin_dir: run.path().join("bpf"),
        ..AgentConfig::default()
    };
    let stop = AtomicBool::new(false);
    let report = tokio::task::spawn_blocking(move || {
        Examination {
            config: &config,
            launcher: launcher(),
            stop: &stop,
        }
        .report()
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!(report.tried, Tried::OwnPrograms);
    assert_eq!(bad(&report.checks), []);
    assert!(std::fs::read_dir(run.path()).unwrap().next().is_none());
}
