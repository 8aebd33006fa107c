//! What is left of an agent on the host: nothing, once it is uninstalled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tollgate_tests::process::{eventually, run};
use tollgate_tests::script::serves;
use tollgate_tests::world::{ALLOW_ALL, World};

const LIMIT: Duration = Duration::from_secs(30);

/// Kind and id of every program, map and link on the host. There may be none at all: then the kernel says so (`ENOENT`),
/// and any other answer is an error.
fn objects() -> BTreeSet<(String, u64)> {
    let script = r#"
import ctypes, errno, platform, struct
bpf = {"x86_64": 321, "aarch64": 280}[platform.machine()]
call = ctypes.CDLL(None, use_errno=True).syscall
for kind, command in ("program", 11), ("map", 12), ("link", 31):
    id = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("III", id, 0, 0), 12)
        if call(bpf, command, attributes, 12) < 0:
            assert ctypes.get_errno() == errno.ENOENT, ctypes.get_errno()
            break
        _, id, _ = struct.unpack("III", attributes)
        print(kind, id)
"#;
    let list = run(Command::new("python3").args(["-c", script])).unwrap();
    list.lines()
        .map(|line| {
            let (kind, id) = line.split_once(' ').unwrap();
            (kind.to_owned(), id.parse().unwrap())
        })
        .collect()
}

/// What of the host an agent in `dir` might change, besides its programs and maps.
fn host(dir: &Path) -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = dir.to_str().unwrap();
    let mut host: BTreeSet<String> = mounts
        .lines()
        .filter(|line| line.contains(own) || line.contains(" /sys/fs/bpf "))
        .map(str::to_owned)
        .collect();
    for place in [PathBuf::from("/sys/fs/bpf"), dir.join("run"), dir.join("pins")] {
        host.extend(tree(&place));
    }
    host
}

fn tree(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&entry.path()));
        }
    }
    found
}

#[test]
fn after_uninstall_the_host_is_as_it_was() {
    let mut world = World::start(ALLOW_ALL).unwrap();
    world.agent.kill().unwrap();
    world.agent.uninstall().unwrap();
    let dir = world.agent.dir().to_owned();
    let (clean, before) = (host(&dir), objects());
    assert!(
        !clean
            .iter()
            .any(|path| path.contains("pins") || path.contains("run/")),
        "{clean:?}"
    );

    // An agent that served, was killed, was started again, and was killed again at once.
    world.agent.resume().unwrap();
    serves(&world);
    world.agent.kill().unwrap();
    world.agent.begin().unwrap();
    world.agent.kill().unwrap();
    // Pins of versions that there are not, and what is no pin.
    for name in ["1", "999-7", "half-made"] {
        fs::create_dir(dir.join("pins").join(name)).unwrap();
    }
    fs::rename(dir.join("pins/1-1/STATS"), dir.join("pins/999-7/STATS")).unwrap();
    let made = objects();
    let new: BTreeSet<_> = made.difference(&before).cloned().collect();
    for kind in ["program", "map", "link"] {
        assert!(new.iter().any(|(of, _)| of == kind), "{kind}");
    }
    assert_ne!(host(&dir), clean);

    world.agent.uninstall().unwrap();
    assert_eq!(host(&dir), clean);
    // The kernel frees them when every reader is through with them.
    eventually("programs and maps to be gone", LIMIT, || {
        let left: Vec<_> = objects().intersection(&new).cloned().collect();
        left.is_empty().then_some(())
    })
    .unwrap();
    // Whoever was managed reaches the server directly.
    let direct = world.sql("SELECT 1").unwrap();
    assert!(direct.stderr.contains("password"), "{direct:?}");
}

#[test]
fn an_agent_that_runs_is_not_uninstalled() {
    let world = World::start(ALLOW_ALL).unwrap();
    let refused = world.agent.cli("uninstall", &[]).unwrap_err().to_string();
    assert!(refused.contains("another tollgate agent"), "{refused}");
    serves(&world);
}
