//! What the kernel side costs those that it concerns, and those that it does not.
//!
//! Each round measures the bare host first and then the same host with a running agent, so that what else goes on there
//! falls on all of them alike. Loads are processes of their own, in the cgroup of their circumstance.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tollgate_tests::agent::{Agent, workspace};
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::run as finish;
use tollgate_tests::world::ALLOW_ALL;

use super::figures::{Figures, Quantity};
use super::programs::{self, Counting};
use crate::{build, setup};

const CONNECT: Quantity = quantity("connect(), half of them take no longer", "µs", 1);
const CONNECT_99: Quantity = quantity("connect(), 99 of 100 take no longer", "µs", 1);
const GREET: Quantity = quantity("connect() and first byte of the answer", "µs", 1);
const SOCKET: Quantity = quantity("socket()", "µs", 2);
const DATAGRAMS: Quantity = quantity("datagrams of 64 bytes", "thousand a second", 0);
const STREAM: Quantity = quantity("one TCP stream", "MB a second", 0);

const BARE: &str = "bare: no Tollgate on the host";
const UNMANAGED: &str = "beside a running agent, under no policy";
const UNMATCHED: &str = "under a policy, to what it does not protect";
const REDIRECTED: &str = "under a policy, redirected to the agent";
const NFT: &str = "nft REDIRECT in place of Tollgate";

const fn quantity(name: &'static str, unit: &'static str, digits: usize) -> Quantity {
    Quantity { name, unit, digits }
}

/// How much is measured.
struct Size {
    rounds: usize,
    connects: usize,
    greetings: usize,
    sockets: usize,
    time: Duration,
}

const WHOLE: Size = Size {
    rounds: 21,
    connects: 2_000,
    greetings: 100,
    sockets: 5_000,
    time: Duration::from_millis(200),
};

const QUICK: Size = Size {
    rounds: 3,
    connects: 500,
    greetings: 50,
    sockets: 2_000,
    time: Duration::from_millis(100),
};

pub(super) fn run(quick: bool, no_build: bool) -> Result<()> {
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "the benchmark attaches eBPF programs and needs root"
    );
    let (agent, load) = if no_build {
        (built("tollgate")?, built("tollgate-load")?)
    } else {
        setup::for_build()?;
        setup::packages(&[("bpftool", "/usr/sbin/bpftool")])?;
        (build::agent(true)?, build::load()?)
    };
    let (figures, programs) = measure(&agent, &load, if quick { &QUICK } else { &WHOLE })?;
    say(&format!(
        "\nLinux {}, {} processors, one client at a time over the loopback\n\n{}\n\
         {:<26} {:<24} {:>12} {:>9}\n{programs}",
        std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        std::thread::available_parallelism()?,
        figures.tables(),
        "under no policy, each",
        "program",
        "runs",
        "ns a run",
    ));
    Ok(())
}

pub(super) fn built(name: &str) -> Result<PathBuf> {
    let path = workspace().join("target/release").join(name);
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

fn measure(agent: &Path, load: &Path, size: &Size) -> Result<(Figures, String)> {
    let server = Server::start(load)?;
    let unprotected = Server::start(load)?;
    let redirection = Redirection::start(load)?;
    let job = Cgroup::create(&format!("/tollgate-bench-{}/job", std::process::id()))?;
    // As deep as a login's or a container's.
    let top = Cgroup::create(&format!("/tollgate-bench-{}-elsewhere", std::process::id()))?;
    let elsewhere = Cgroup::create(&format!("{}/a/b/c", top.path()))?;
    let elsewhere = Some(&elsewhere);
    let mut agent = prepare(agent, &job, &server)?;
    say_who_else(&agent)?;
    let loads = Loads { load, size };
    let mut figures = Figures::default();
    let mut programs = String::new();
    for round in 1..=size.rounds {
        say(&format!("round {round} of {}", size.rounds));
        loads.everything(&mut figures, BARE, elsewhere, &server)?;
        if let Some(redirection) = &redirection {
            redirection.measure(&mut figures, size)?;
        }
        agent.resume()?;
        beside_the_server(&agent)?;
        loads.everything(&mut figures, UNMANAGED, elsewhere, &server)?;
        loads.everything(&mut figures, UNMATCHED, Some(&job), &unprotected)?;
        loads.connections(&mut figures, REDIRECTED, Some(&job), &server)?;
        if round == size.rounds {
            programs = loads.programs(elsewhere, &server)?;
        }
        agent.uninstall()?;
    }
    Ok((figures, programs))
}

/// An agent whose policy protects the server's two ports for connections.
fn prepare(binary: &Path, job: &Cgroup, server: &Server) -> Result<Agent> {
    let mut agent = Agent::prepare(&[])?;
    agent.run_by(binary.to_owned());
    let secret = agent.secret("password", "of nobody")?;
    let policy = format!(
        "[workload]\nname = \"bench\"\ncgroup = [\"{}\"]\negress = \"allow\"\n\n[[service]]\nname = \"db\"\n\
         protocol = \"postgres\"\naddress = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]\n\n[service.credential]\n\
         source = \"file\"\nuser = \"nobody\"\npassword = \"{}\"\n{ALLOW_ALL}",
        job.path(),
        server.port("accept")?,
        server.port("greet")?,
        secret.display()
    );
    agent.policy("bench", &Policy::from_text(&policy))?;
    Ok(agent)
}

/// A host on whose cgroups others have programs is not bare.
fn say_who_else(agent: &Agent) -> Result<()> {
    let examined = agent.tollgate("doctor").arg("--json").output()?;
    let report: Value = serde_json::from_slice(&examined.stdout).context("what the doctor says")?;
    let text = |check: &Value, name: &str| check.get(name).and_then(Value::as_str).map(str::to_owned);
    let checks = report.get("checks").and_then(Value::as_array);
    let others: Vec<String> = checks
        .into_iter()
        .flatten()
        .filter(|check| text(check, "group").as_deref() == Some("neighbours"))
        .filter_map(|check| text(check, "title"))
        .filter(|title| title != "programs of others on cgroups")
        .collect();
    if let Some(first) = others.first() {
        say(&format!(
            "NOT BARE: others have programs on cgroups, {} of them, such as {first}; `tollgate doctor` names them",
            others.len()
        ));
    }
    Ok(())
}

/// Puts the agent's threads where the loads' server is: the connections that it takes then cost the client what those to
/// the server cost.
fn beside_the_server(agent: &Agent) -> Result<()> {
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut taskset = Command::new("taskset");
    taskset.args([
        "--all-tasks",
        "--cpu-list",
        "--pid",
        &last.to_string(),
        &agent.pid().to_string(),
    ]);
    finish(&mut taskset).map(drop)
}

struct Loads<'a> {
    load: &'a Path,
    size: &'a Size,
}

impl Loads<'_> {
    fn everything(
        &self,
        figures: &mut Figures,
        circumstance: &'static str,
        cgroup: Option<&Cgroup>,
        server: &Server,
    ) -> Result<()> {
        let Size { sockets, time, .. } = self.size;
        let time = time.as_millis().to_string();
        self.connections(figures, circumstance, cgroup, server)?;
        let made = self.run(cgroup, &["sockets", &sockets.to_string()])?;
        figures.add(SOCKET, circumstance, field(&made, "p50")?);
        let sent = self.run(cgroup, &["datagrams", &server.address("datagrams")?, &time])?;
        figures.add(DATAGRAMS, circumstance, field(&sent, "rate")? / 1e3);
        let carried = self.run(cgroup, &["stream", &server.address("sink")?, &time])?;
        figures.add(STREAM, circumstance, field(&carried, "rate")? / 1e6);
        Ok(())
    }

    /// What each program takes for those under no policy.
    fn programs(&self, cgroup: Option<&Cgroup>, server: &Server) -> Result<String> {
        let Size {
            connects, sockets, ..
        } = self.size;
        // Until this returns.
        let _counting = Counting::start()?;
        let (connects, sockets) = (connects.to_string(), sockets.to_string());
        let (accept, datagrams) = (server.address("accept")?, server.address("datagrams")?);
        let loads = [
            (
                "connection",
                self.size.connects,
                vec!["connect", &accept, &connects],
            ),
            ("socket()", self.size.sockets, vec!["sockets", &sockets]),
            // How many it sends is known afterwards.
            ("100 ms of datagrams", 1, vec!["datagrams", &datagrams, "100"]),
        ];
        let tables = loads.into_iter().map(|(what, count, arguments)| {
            programs::table(what, count, || self.run(cgroup, &arguments).map(drop))
        });
        tables.collect()
    }

    fn connections(
        &self,
        figures: &mut Figures,
        circumstance: &'static str,
        cgroup: Option<&Cgroup>,
        server: &Server,
    ) -> Result<()> {
        let Size {
            connects, greetings, ..
        } = self.size;
        let made = self.run(
            cgroup,
            &["connect", &server.address("accept")?, &connects.to_string()],
        )?;
        figures.add(CONNECT, circumstance, field(&made, "p50")?);
        figures.add(CONNECT_99, circumstance, field(&made, "p99")?);
        let answered = self.run(
            cgroup,
            &["greet", &server.address("greet")?, &greetings.to_string()],
        )?;
        figures.add(GREET, circumstance, field(&answered, "p50")?);
        Ok(())
    }

    fn run(&self, cgroup: Option<&Cgroup>, arguments: &[&str]) -> Result<Value> {
        let mut command = match cgroup {
            None => Command::new(self.load),
            Some(cgroup) => {
                let mut shell = Command::new("/bin/sh");
                shell
                    .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
                    .arg(cgroup.dir().join("cgroup.procs"))
                    .arg(self.load);
                shell
            }
        };
        parse(&finish(command.args(arguments))?)
    }
}

fn parse(printed: &str) -> Result<Value> {
    serde_json::from_str(printed).with_context(|| format!("a load printed {printed:?}"))
}

fn field(value: &Value, name: &str) -> Result<f64> {
    let figure = value.get(name).and_then(Value::as_f64);
    figure.with_context(|| format!("a load did not measure {name}"))
}

/// What the loads connect to. Ends with this value.
struct Server {
    child: Child,
    ports: Value,
}

impl Server {
    fn start(load: &Path) -> Result<Self> {
        Self::spawn(Command::new(load).arg("serve"))
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        let mut server = Self {
            child: command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?,
            ports: Value::Null,
        };
        let mut line = String::new();
        if let Some(output) = server.child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        server.ports = parse(&line)?;
        Ok(server)
    }

    fn port(&self, name: &str) -> Result<u64> {
        let port = self.ports.get(name).and_then(Value::as_u64);
        port.with_context(|| format!("the server has no port {name}"))
    }

    fn address(&self, name: &str) -> Result<String> {
        Ok(format!("127.0.0.1:{}", self.port(name)?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a host without Tollgate would use: a rule of nftables, in a network namespace of its own.
struct Redirection {
    server: Server,
    load: PathBuf,
}

impl Redirection {
    /// A port that nobody listens on and that the rule redirects.
    const PORT: u16 = 4;

    /// `None`, and it says so, where nft cannot be used.
    fn start(load: &Path) -> Result<Option<Self>> {
        let mut command = Command::new("unshare");
        command
            .args([
                "--net",
                "--",
                "/bin/sh",
                "-c",
                "ip link set lo up && exec \"$0\" serve",
            ])
            .arg(load);
        let server = Server::spawn(&mut command)?;
        let redirection = Self {
            server,
            load: load.to_owned(),
        };
        let rules = format!(
            "add table ip bench; add chain ip bench output {{ type nat hook output priority -100; }}; \
             add rule ip bench output tcp dport {} redirect to :{}; \
             add rule ip bench output tcp dport {} redirect to :{}",
            Self::PORT,
            redirection.server.port("accept")?,
            Self::PORT + 1,
            redirection.server.port("greet")?,
        );
        match finish(redirection.inside("nft").arg(rules)) {
            Ok(_) => Ok(Some(redirection)),
            Err(error) => {
                say(&format!("NOT MEASURED: {NFT}: {error:#}"));
                Ok(None)
            }
        }
    }

    fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &self.server.child.id().to_string(), "--"])
            .arg(program);
        command
    }

    fn measure(&self, figures: &mut Figures, size: &Size) -> Result<()> {
        let Size {
            connects, greetings, ..
        } = size;
        let run = |what: &str, port: u16, count: &usize| {
            let address = format!("127.0.0.1:{port}");
            parse(&finish(self.inside(&self.load).args([
                what,
                &address,
                &count.to_string(),
            ]))?)
        };
        let made = run("connect", Self::PORT, connects)?;
        figures.add(CONNECT, NFT, field(&made, "p50")?);
        figures.add(CONNECT_99, NFT, field(&made, "p99")?);
        figures.add(
            GREET,
            NFT,
            field(&run("greet", Self::PORT + 1, greetings)?, "p50")?,
        );
        Ok(())
    }
}

fn say(line: &str) {
    // Whoever has stopped reading does not want to know.
    writeln!(std::io::stdout(), "{line}").ok();
}
