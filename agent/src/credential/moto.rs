//! A real server of AWS' interfaces: that of the Python package (`moto[server]`), with the interpreter that
//! `TOLLGATE_TEST_PYTHON` names.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// The server, and where it listens. It ends with this.
pub(crate) struct Moto {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
}

pub(crate) fn python() -> String {
    std::env::var("TOLLGATE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

impl Moto {
    /// `None`: it is not installed. Fails where `CI` is set.
    pub(crate) fn start() -> Option<Self> {
        let python = python();
        let has = Command::new(&python)
            .args(["-c", "import moto.server"])
            .stderr(Stdio::null())
            .status();
        if !has.is_ok_and(|status| status.success()) {
            assert!(
                std::env::var_os("CI").is_none(),
                "{python} has no moto.server: pip install 'moto[server]'"
            );
            eprintln!("NOT RUN: {python} has no moto.server: pip install 'moto[server]'");
            return None;
        }
        let mut child = Command::new(python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("Running on ")?.1.trim().to_owned()))
            .expect("the server says where it listens");
        // It goes on writing, and ends if nobody reads.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Some(Self { child, url })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
