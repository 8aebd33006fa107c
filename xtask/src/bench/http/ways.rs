//! The ways from the load to the target: direct, and through each of the proxies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tollgate_tests::agent::{Agent, workspace};
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::{Service, free_port, run as finish};

use super::loads::Load;
use super::site::{NAME, Site, TOKEN};
use super::world::{entering, listening};

/// The last release that installs on Python 3.11.
const MITMPROXY: &str = "mitmproxy==11.0.2";

/// A way. What runs for it ends with this value.
pub(super) struct Way {
    pub(super) name: &'static str,
    /// Where the proxy's processes are, for what they use; `None`: there is no proxy.
    pub(super) proxy: Option<Cgroup>,
    /// Where the load runs.
    pub(super) load: LoadPlace,
    first: u16,
    second: u16,
    /// Whether the client shows the token itself.
    pub(super) token: bool,
    _running: Running,
}

#[expect(
    dead_code,
    reason = "kept for as long as the way is used, and ended by being dropped"
)]
enum Running {
    Nothing,
    Service(Service),
    Agent(Box<Agent>),
}

/// In which cgroup a load runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadPlace {
    /// Under no policy.
    Elsewhere,
    /// Under Tollgate's policy.
    Job,
}

/// What the ways are made of.
pub(super) struct Parts<'a> {
    pub(super) site: &'a Site,
    pub(super) dir: &'a Path,
    pub(super) job: &'a Cgroup,
    /// The interpreter that has mitmproxy, where there is one.
    pub(super) python: Option<&'a Path>,
}

impl Way {
    /// The port that a load speaks to.
    pub(super) fn port(&self, load: Load) -> u16 {
        if load.is_second() { self.second } else { self.first }
    }
}

impl Parts<'_> {
    pub(super) fn direct(&self) -> Way {
        Way {
            name: "direct",
            proxy: None,
            load: LoadPlace::Elsewhere,
            first: self.site.port(),
            second: self.site.port(),
            token: true,
            _running: Running::Nothing,
        }
    }

    /// nginx speaks HTTP/1.1 to targets, whatever its client speaks.
    pub(super) fn nginx(&self) -> Result<Way> {
        let port = free_port()?;
        let dir = self.dir.display();
        let text = format!(
            "pid {dir}/nginx.pid;\nerror_log {dir}/nginx.log warn;\nworker_processes auto;\ndaemon off;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log off;\n  tcp_nopush on;\n  keepalive_requests 1000000;\n  \
             client_body_temp_path {dir}/nginx-body;\n  proxy_temp_path {dir}/nginx-proxy;\n  \
             fastcgi_temp_path {dir}/nginx-fastcgi;\n  uwsgi_temp_path {dir}/nginx-uwsgi;\n  \
             scgi_temp_path {dir}/nginx-scgi;\n  proxy_buffers 16 64k;\n  proxy_max_temp_file_size 0;\n  \
             upstream target {{ server 127.0.0.1:{target}; keepalive 256; keepalive_requests 1000000; }}\n  \
             server {{\n    listen 127.0.0.1:{port} ssl http2 backlog=4096;\n    \
             ssl_certificate {identity};\n    ssl_certificate_key {identity};\n    \
             ssl_session_cache shared:proxy:4m;\n    ssl_protocols TLSv1.2 TLSv1.3;\n    location / {{\n      proxy_pass https://target;\n      \
             proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
             proxy_set_header Host {NAME};\n      proxy_set_header Authorization \"Bearer {TOKEN}\";\n      \
             proxy_ssl_verify on;\n      proxy_ssl_trusted_certificate {ca};\n      \
             proxy_ssl_server_name on;\n      proxy_ssl_name {NAME};\n      proxy_ssl_protocols TLSv1.2 TLSv1.3;\n    \
             }}\n  }}\n}}\n",
            target = self.site.port(),
            identity = self.site.identity().display(),
            ca = self.site.authority().display(),
        );
        let config = self.dir.join("nginx.conf");
        fs::write(&config, text)?;
        self.service(
            "nginx, re-encrypting",
            (port, port),
            Path::new("/usr/sbin/nginx"),
            |command| {
                command.arg("-c").arg(&config);
            },
        )
    }

    /// It speaks to the target what the client speaks: a port for each.
    pub(super) fn haproxy(&self) -> Result<Way> {
        let (first, second) = (free_port()?, free_port()?);
        let identity = self.site.identity();
        let front = |name: &str, port: u16, protocol: &str| {
            format!(
                "listen {name}\n  bind 127.0.0.1:{port} ssl crt {identity} alpn {protocol}\n  \
                 http-request set-header Authorization \"Bearer {TOKEN}\"\n  \
                 server target 127.0.0.1:{target} ssl verify required ca-file {ca} sni str({NAME}) verifyhost {NAME} \
                 alpn {protocol}\n",
                identity = identity.display(),
                target = self.site.port(),
                ca = self.site.authority().display(),
            )
        };
        let text = format!(
            "global\n  nbthread {threads}\n  maxconn 4096\n  ssl-default-bind-options ssl-min-ver TLSv1.2\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\n{}\n{}",
            front("first", first, "http/1.1"),
            front("second", second, "h2"),
            threads = std::thread::available_parallelism()?,
        );
        let config = self.dir.join("haproxy.cfg");
        fs::write(&config, text)?;
        self.service(
            "HAProxy, re-encrypting",
            (first, second),
            Path::new("/usr/sbin/haproxy"),
            |command| {
                command.arg("-db").arg("-f").arg(&config);
            },
        )
    }

    pub(super) fn mitmproxy(&self) -> Result<Option<Way>> {
        let Some(python) = self.python else {
            return Ok(None);
        };
        let port = free_port()?;
        let home = self.dir.join("mitmproxy");
        let program = python.with_file_name("mitmdump");
        let way = self.service("mitmproxy, reverse mode", (port, port), &program, |command| {
            command
                .args(["--quiet", "--mode"])
                .arg(format!("reverse:https://{NAME}:{}", self.site.port()))
                .args(["--listen-host", "127.0.0.1", "--listen-port", &port.to_string()])
                .arg("--set")
                .arg(format!("confdir={}", home.display()))
                .arg("--set")
                .arg(format!(
                    "ssl_verify_upstream_trusted_ca={}",
                    self.site.authority().display()
                ))
                .args(["--set", "flow_detail=0", "--set", "stream_large_bodies=1m"])
                .arg("--modify-headers")
                .arg(format!("/~q/Authorization/Bearer {TOKEN}"));
        })?;
        Ok(Some(way))
    }

    /// Rules, an injected credential and records: what it is there for.
    pub(super) fn tollgate(&self, binary: &Path) -> Result<Way> {
        let mut agent = Agent::prepare(&[])?;
        agent.run_by(binary.to_owned());
        let secret = agent.secret("token", TOKEN)?;
        let policy = format!(
            r#"[workload]
name   = "bench"
cgroup = ["{job}"]
egress = "allow"

[[service]]
name     = "site"
protocol = "http"
address  = ["{NAME}:{port}"]
tls      = {{ upstream = "verify-full", ca = "{ca}" }}

[service.credential]
source = "file"
token  = "{secret}"
inject = {{ header = "Authorization", scheme = "Bearer" }}

[[service.rule]]
name    = "answers of the site"
methods = ["GET"]
paths   = ["/small", "/bulk"]
verdict = "allow"

[[service.rule]]
name    = "nothing of the administration"
paths   = ["/admin/**"]
verdict = "deny"

[[service.rule]]
name    = "a user's page, by number"
methods = ["GET", "HEAD"]
paths   = ["/v1/users/{{id}}"]
verdict = "allow"
"#,
            job = self.job.path(),
            port = self.site.port(),
            ca = self.site.authority().display(),
            secret = secret.display(),
        );
        agent.policy("bench", &Policy::from_text(&policy))?;
        agent.resume()?;
        let cgroup = proxy_cgroup("tollgate")?;
        fs::write(cgroup.dir().join("cgroup.procs"), agent.pid().to_string())?;
        Ok(Way {
            name: "Tollgate: rules, injection, record",
            proxy: Some(cgroup),
            load: LoadPlace::Job,
            first: self.site.port(),
            second: self.site.port(),
            token: false,
            _running: Running::Agent(Box::new(agent)),
        })
    }

    fn service(
        &self,
        name: &'static str,
        (first, second): (u16, u16),
        program: &Path,
        arguments: impl FnOnce(&mut Command),
    ) -> Result<Way> {
        let short = program.file_name().context("a program without a name")?;
        let short = short.to_string_lossy();
        let cgroup = proxy_cgroup(&short)?;
        let mut command = entering(&cgroup, program);
        arguments(&mut command);
        let log = self.dir.join(format!("{short}.out"));
        let mut service = Service::start(name, &mut command, &log)?;
        service.wait_for("it to listen", Duration::from_secs(30), |_| {
            listening(first) && listening(second)
        })?;
        Ok(Way {
            name,
            proxy: Some(cgroup),
            load: LoadPlace::Elsewhere,
            first,
            second,
            token: false,
            _running: Running::Service(service),
        })
    }
}

fn proxy_cgroup(name: &str) -> Result<Cgroup> {
    Cgroup::create(&format!("/tollgate-bench-{}-{name}", std::process::id()))
}

/// mitmproxy in an environment of its own (target/mitmproxy), which is made where it is missing.
pub(super) fn mitmproxy() -> Result<PathBuf> {
    let home = workspace().join("target/mitmproxy");
    let python = home.join("bin/python3");
    if home.join("bin/mitmdump").exists() {
        return Ok(python);
    }
    crate::setup::say(&format!("{MITMPROXY} from PyPI (target/mitmproxy)"));
    finish(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
    finish(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        MITMPROXY,
    ]))?;
    Ok(python)
}
