//! Where the attacks play: a host with an agent and a service of its own, a remote host, managed cgroups.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::counters::Counters;
use super::server::{Arrival, Server};
use super::vector::{Under, User};
use crate::agent::Agent;
use crate::cgroup::Cgroup;
use crate::netns::Netns;
use crate::policy::Policy;
use crate::process::run;
use crate::scratch::Scratch;

/// Port of the protected services, by every transport.
const PORT: u16 = 5432;
/// Port of the same host that no policy names.
const FREE_PORT: u16 = 8080;
/// Port where nobody listens.
const CLOSED_PORT: u16 = 8081;
/// Port of this host's own service.
const LOCAL_PORT: u16 = 5433;

/// The stage. Fields are dropped in this order: the agent goes before the cgroups, and these before the servers.
#[derive(Debug)]
pub struct Stage {
    /// The agent; started by the suite.
    pub agent: Agent,
    allow: Cgroup,
    deny: Cgroup,
    outside: Cgroup,
    remote: Server,
    local: Server,
    scratch: Scratch,
    facts: Value,
    namespace: Netns,
}

impl Stage {
    /// Builds it. The calling thread, and what it starts from now on, is in a network namespace of its own, which stands
    /// for the host's.
    pub fn build() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
        let namespace = Netns::create(NET, 1)?;
        let facts = wire(&namespace)?;
        let scratch = Scratch::new("bypass")?;
        let socket = scratch.path().join(".s.PGSQL.5432");
        let pid = namespace.pid().to_string();
        let remote = Server::start(
            &["nsenter", "--net", "--target", &pid],
            &json!({
                "tcp": [PORT, FREE_PORT, 443, 53], "udp": [PORT, FREE_PORT, 443, 53], "udplite": [PORT],
                "sctp": [PORT], "dccp": [PORT], "icmp": true,
            }),
        )?;
        let local = Server::start(
            &[],
            &json!({
                "tcp": [LOCAL_PORT], "udp": [LOCAL_PORT], "vsock": [PORT], "unix": [socket, "\0tollgate-bypass-relay"],
            }),
        )?;
        let slice = format!("/tollgate-bypass-{}", std::process::id());
        let allow = Cgroup::create(&format!("{slice}/job"))?;
        delegate(&allow)?;
        let stage = Self {
            agent: agent(&slice, &socket)?,
            allow,
            deny: Cgroup::create(&format!("{slice}/strict"))?,
            outside: Cgroup::create(&format!("{slice}/outside"))?,
            remote,
            local,
            scratch,
            facts,
            namespace,
        };
        stage.describe(false)?;
        Ok(stage)
    }

    /// Tells attackers whether there is an agent, and where everything is.
    pub fn describe(&self, tollgate: bool) -> Result<()> {
        let (proxy4, proxy6) = Counters::read(&self.pins())?.proxy();
        let mut world = self.facts.clone();
        let more = json!({
            "tollgate": tollgate,
            "port": PORT, "free_port": FREE_PORT, "closed_port": CLOSED_PORT, "local_port": LOCAL_PORT, "vsock_port": PORT,
            "unix": self.scratch.path().join(".s.PGSQL.5432"),
            "dir": self.scratch.path(),
            "pins": self.pins(),
            "agent_pid": self.agent.pid(), "proxy4": proxy4, "proxy6": proxy6,
            "outside_cgroup": self.outside.dir(),
            "remote_pid": self.namespace.pid(),
        });
        if let (Some(world), Some(more)) = (world.as_object_mut(), more.as_object()) {
            world.extend(more.clone());
        }
        std::fs::write(self.world(), world.to_string()).context("describe the world to attackers")
    }

    /// The file that [`Stage::describe`] writes.
    pub fn world(&self) -> PathBuf {
        self.scratch.path().join("world.json")
    }

    /// The agent's pins.
    pub fn pins(&self) -> PathBuf {
        self.agent.dir().join("pins")
    }

    /// The managed cgroup of this policy.
    pub fn cgroup(&self, under: Under) -> &Path {
        match under {
            Under::Allow => self.allow.dir(),
            Under::Deny => self.deny.dir(),
        }
    }

    /// What arrived at any server since it was asked last.
    pub fn arrivals(&mut self) -> Result<Vec<Arrival>> {
        let mut arrivals = self.remote.arrivals()?;
        arrivals.extend(self.local.arrivals()?);
        Ok(arrivals)
    }

    /// What this kernel could not serve.
    pub fn missing(&self) -> impl Iterator<Item = &String> {
        self.remote.missing().iter().chain(self.local.missing())
    }
}

/// Second octet of the networks. They are in a namespace of the suite's own, so it may be anything.
const NET: u8 = 77;

/// Puts addresses and routes in place, and gives them names.
fn wire(namespace: &Netns) -> Result<Value> {
    let (host, inside) = ("tg77x1h", "tg77x1i");
    sh("ip link set lo up
        echo 1 > /proc/sys/net/ipv4/ip_forward
        echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range
        echo 1 > /proc/sys/net/ipv4/tcp_fastopen")?;
    sh(&format!(
        "ip address add fd77:1::1/64 dev {host} nodad
         ip route add 10.77.2.2/32 via 10.77.1.2
         ip route add 10.77.3.0/24 via 10.77.1.2
         ip route add fd77:2::2/128 via fd77:1::2"
    ))?;
    let inside_script = format!(
        "ip address add fd77:1::2/64 dev {inside} nodad
         ip address add 10.77.2.2/32 dev lo
         ip address add fd77:2::2/128 dev lo nodad
         ip -6 route add default via fd77:1::1
         cd /proc/sys/net
         echo 3 > ipv4/tcp_fastopen
         for conf in ipv4/conf/all ipv4/conf/{inside}; do
             echo 1 > $conf/accept_source_route
             echo 0 > $conf/rp_filter
         done
         for conf in ipv6/conf/all ipv6/conf/{inside}; do
             [ ! -e $conf/seg6_enabled ] || echo 1 > $conf/seg6_enabled
         done
         cat /sys/class/net/{inside}/address 2>/dev/null || true"
    );
    run(Command::new("nsenter")
        .args(["--net", "--target", &namespace.pid().to_string(), "sh", "-ec"])
        .arg(&inside_script))?;
    let addresses =
        |family: &str| run(Command::new("ip").args(["-o", family, "address", "show", "dev", host]));
    let link_local = addresses("-6")?
        .split_whitespace()
        .find_map(|word| {
            word.strip_suffix("/64")
                .filter(|ip| ip.starts_with("fe80"))
                .map(str::to_owned)
        })
        .context("no link-local address")?;
    let link = run(Command::new("nsenter").args([
        "--net",
        "--target",
        &namespace.pid().to_string(),
        "ip",
        "-o",
        "link",
        "show",
        "dev",
        inside,
    ]))?;
    let mac = link
        .split_whitespace()
        .skip_while(|word| *word != "link/ether")
        .nth(1)
        .context("no hardware address")?;
    Ok(json!({
        "own4": namespace.host(), "own6": "fd77:1::1", "link_local": link_local, "device": host,
        "remote4": "10.77.1.2", "remote6": "fd77:1::2", "remote_mac": mac, "other4": "10.77.2.2", "other6": "fd77:2::2",
    }))
}

/// Gives a cgroup to the user without privileges, as `Delegate=` in a unit with `User=` does.
fn delegate(cgroup: &Cgroup) -> Result<()> {
    let path = |name: &str| cgroup.dir().join(name);
    run(Command::new("chown").arg(User::Nobody.name()).args([
        path(""),
        path("cgroup.procs"),
        path("cgroup.subtree_control"),
    ]))
    .map(drop)
}

fn sh(script: &str) -> Result<()> {
    run(Command::new("sh").args(["-ec", script])).map(drop)
}

/// An agent, not yet started, that protects both services for both cgroups.
fn agent(slice: &str, socket: &Path) -> Result<Agent> {
    let policy = |name: &str, cgroup: &str, egress: &str| {
        Policy::from_text(&format!(
            r#"
[workload]
name   = "{name}"
cgroup = ["{slice}/{cgroup}", "{slice}/{cgroup}-*"]
egress = "{egress}"

[[service]]
name     = "remote"
protocol = "opaque"
address  = ["10.77.1.2:{PORT}", "[fd77:1::2]:{PORT}", "10.77.1.2:443"]

[[service]]
name     = "local"
protocol = "opaque"
address  = ["127.0.0.1:{LOCAL_PORT}"]
unix     = ["{socket}"]
"#,
            socket = socket.display(),
        ))
    };
    Agent::prepare(&[
        ("job", policy("job", "job", "allow")),
        ("strict", policy("strict", "strict", "deny")),
    ])
}
