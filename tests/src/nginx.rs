//! A real nginx, as a target of HTTP.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::{Service, eventually, free_port};
use crate::scratch::Scratch;

/// A running nginx on a port of 127.0.0.1, in a folder of its own.
#[derive(Debug)]
pub struct Nginx {
    _service: Service,
    scratch: Scratch,
    port: u16,
}

impl Nginx {
    /// Starts one. `http`: what stands in its `http` block, with `{dir}` for its folder and `{port}` for its port; `prepare` puts into
    /// the folder what that names.
    pub fn start(http: &str, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let scratch = Scratch::new("nginx")?;
        let port = free_port()?;
        prepare(scratch.path())?;
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {{dir}}/{kind};"))
            .join("\n");
        let config = format!(
            "daemon off;\nmaster_process off;\npid {{dir}}/pid;\nerror_log {{dir}}/error.log;\nevents {{}}\nhttp {{\n\
             log_format seen '$request_method $uri $server_protocol';\naccess_log {{dir}}/access.log seen;\n\
             {temporary}\n{http}\n}}\n"
        );
        let config = config
            .replace("{dir}", &scratch.path().display().to_string())
            .replace("{port}", &port.to_string());
        let path = scratch.path().join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&path);
        let service = Service::start("nginx", &mut command, &scratch.path().join("nginx.log"))?;
        eventually("nginx to listen", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        })?;
        Ok(Self {
            _service: service,
            scratch,
            port,
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// What it has answered: method, path as it read it, and version.
    pub fn seen(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}
