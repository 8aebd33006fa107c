//! The target: nginx with TLS, which answers only those that show the token.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::process::{Service, free_port, run as finish};

use super::world::{entering, listening};

/// Name of the target, in its certificate and in what clients ask for.
pub(super) const NAME: &str = "localhost";
/// What the target wants to see. No client has it but the one that measures the direct way.
pub(super) const TOKEN: &str = "bench-throw-away-7d10";
/// Size of the answer `/bulk`, in bytes.
pub(super) const BULK: u64 = 8 << 20;

/// A running target. Ends with this value.
pub(super) struct Site {
    dir: PathBuf,
    port: u16,
    _server: Service,
}

impl Site {
    /// Makes certificates and answers in `dir`, and starts the server.
    pub(super) fn start(dir: &Path, cgroup: &Cgroup) -> Result<Self> {
        certificates(dir)?;
        let answers = dir.join("answers");
        fs::create_dir_all(&answers)?;
        fs::write(answers.join("small"), vec![b'x'; 1024])?;
        // As most of what is carried in bulk: nothing that packs it finds anything to pack.
        let mut random = Command::new("openssl");
        random
            .arg("rand")
            .arg("-out")
            .arg(answers.join("bulk"))
            .arg(BULK.to_string());
        finish(&mut random)?;
        // nginx gives its workers away to another user.
        for (path, mode) in [(dir, 0o755), (&answers, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        let port = free_port()?;
        let text = format!(
            "pid {dir}/target.pid;\nerror_log {dir}/target.log warn;\nworker_processes auto;\ndaemon off;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000;\n  \
             http2_max_concurrent_streams 256;\n  client_body_temp_path {dir}/target-body;\n  \
             proxy_temp_path {dir}/target-proxy;\n  fastcgi_temp_path {dir}/target-fastcgi;\n  \
             uwsgi_temp_path {dir}/target-uwsgi;\n  scgi_temp_path {dir}/target-scgi;\n  \
             open_file_cache max=16;\n  default_type application/octet-stream;\n  \
             server {{\n    listen 127.0.0.1:{port} ssl http2 backlog=4096;\n    \
             ssl_certificate {dir}/site.pem;\n    ssl_certificate_key {dir}/site.key;\n    \
             ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_session_cache shared:target:4m;\n    \
             if ($http_authorization != \"Bearer {TOKEN}\") {{ return 401; }}\n    root {answers};\n  }}\n}}\n",
            dir = dir.display(),
            answers = answers.display()
        );
        let config = dir.join("target.conf");
        fs::write(&config, text)?;
        let mut command = entering(cgroup, Path::new("/usr/sbin/nginx"));
        command.arg("-c").arg(&config);
        let mut server = Service::start("nginx, the target", &mut command, &dir.join("target.out"))?;
        server.wait_for("it to listen", Duration::from_secs(10), |_| listening(port))?;
        Ok(Self {
            dir: dir.to_owned(),
            port,
            _server: server,
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The authority that vouches for it.
    pub(super) fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Its certificate and, after that, its key. The proxies that are compared show the same one.
    pub(super) fn identity(&self) -> PathBuf {
        self.dir.join("site-with-key.pem")
    }
}

fn certificates(dir: &Path) -> Result<()> {
    let script = format!(
        "set -e
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=throw-away authority' \
             -keyout ca.key -out ca.pem
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN={NAME}' -keyout site.key -out site.csr
         echo 'subjectAltName=DNS:{NAME},IP:127.0.0.1' > names
         openssl x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out site.pem
         cat site.pem site.key > site-with-key.pem"
    );
    finish(Command::new("sh").args(["-c", &script]).current_dir(dir)).map(drop)
}
