//! Scripts that stop half-way, so that a test can do something to them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::World;

/// How long a script may take to its end.
const LIMIT: Duration = Duration::from_secs(30);

/// Starts a script in the managed cgroup and waits for the first line that it prints, `ready`.
///
/// # Panics
/// It prints something else.
pub fn started(world: &World, script: &str) -> Child {
    first_line(&mut world.script(script), "ready")
}

/// Starts a command and waits for the first line that it prints.
///
/// # Panics
/// It prints something else.
pub fn first_line(command: &mut Command, expected: &str) -> Child {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, format!("{expected}\n"));
    child.stdout = Some(output.into_inner());
    child
}

/// What it prints until it ends by itself.
///
/// # Panics
/// It does not end within [`LIMIT`].
pub fn ended(mut child: Child) -> String {
    drop(child.stdin.take());
    let until = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "the script does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a job of the world gets its answer, as it should after whatever was done to it.
///
/// # Panics
/// It does not.
pub fn serves(world: &World) {
    assert_eq!(world.sql("SELECT 1").unwrap().success().unwrap(), "1\n");
}
