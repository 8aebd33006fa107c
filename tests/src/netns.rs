//! A network namespace with a cable to the host's, gone when it is dropped.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{eventually, run};

/// A network namespace with `10.NET.NUMBER.2` inside, and `10.NET.NUMBER.1` at the host's end of the cable.
#[derive(Debug)]
pub struct Netns {
    holder: Child,
    outside: String,
    host: String,
}

impl Netns {
    /// Makes one. Two of the same numbers cannot be on a host at a time.
    pub fn create(net: u8, number: u8) -> Result<Self> {
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("start a process in a network namespace")?;
        let namespace = Self {
            outside: format!("tg{net}x{number}h"),
            host: format!("10.{net}.{number}.1"),
            holder,
        };
        let pid = namespace.holder.id().to_string();
        let own = std::fs::read_link("/proc/thread-self/ns/net")?;
        eventually("the namespace", std::time::Duration::from_secs(5), || {
            let its = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
            (its != own).then_some(())
        })?;
        let inside = format!("tg{net}x{number}i");
        let outside = namespace.outside.as_str();
        ip(&[
            "link", "add", outside, "type", "veth", "peer", "name", &inside, "netns", &pid,
        ])?;
        ip(&[
            "address",
            "add",
            &format!("{}/30", namespace.host),
            "dev",
            outside,
        ])?;
        ip(&["link", "set", outside, "up"])?;
        for args in [
            vec![
                "address",
                "add",
                &format!("10.{net}.{number}.2/30"),
                "dev",
                &inside,
            ],
            vec!["link", "set", &inside, "up"],
            vec!["link", "set", "lo", "up"],
            vec!["route", "add", "default", "via", &namespace.host],
        ] {
            run(Command::new("nsenter")
                .args(["--net", "--target", &pid, "ip"])
                .args(args))?;
        }
        Ok(namespace)
    }

    /// Address of the host's end.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Runs `work` in it, on this thread; what is started meanwhile stays there.
    pub fn inside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let own = std::fs::File::open("/proc/thread-self/ns/net")?;
        let its = std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id()))?;
        nix::sched::setns(its, nix::sched::CloneFlags::CLONE_NEWNET)?;
        let result = work();
        nix::sched::setns(own, nix::sched::CloneFlags::CLONE_NEWNET)?;
        result
    }

    /// A process in it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
        // The cable goes with the namespace, but only once the kernel has cleaned up.
        ip(&["link", "delete", &self.outside]).ok();
    }
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args)).map(drop)
}
