//! A Docker Engine of a test's own, which makes no bridge and no rule of a firewall.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::agent::{Agent, workspace};
use crate::container::{hook, image_archive, remove_slice, root};
use crate::process::{Service, eventually, run};
use crate::scratch::Scratch;

/// Debian's packages of it, as `cargo xtask setup` unpacks them.
pub fn programs() -> PathBuf {
    workspace().join("target/docker-1")
}

/// A running engine. Its containers are gone when it is dropped.
#[derive(Debug)]
pub struct Docker {
    service: Option<Service>,
    scratch: Scratch,
    slice: String,
}

impl Docker {
    /// One whose runtime `tollgate` gives containers the packaged hook, for `agent`. They are all made below the cgroup `slice`.
    pub fn start(agent: &Agent, slice: &str) -> Result<Self> {
        let scratch = Scratch::new("d")?;
        let here = scratch.path();
        let hooks = here.join("hooks.json");
        std::fs::write(&hooks, hook(agent, "runc-hooks.json")?.to_string())?;
        let runtime = here.join("runtime");
        let wrapper = workspace().join("packaging/runc-with-tollgate");
        let script = format!(
            "#!/bin/sh\nTOLLGATE_HOOKS={} exec {} \"$@\"\n",
            hooks.display(),
            wrapper.display()
        );
        std::fs::write(&runtime, script)?;
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755))?;
        let mut docker = Self {
            service: None,
            slice: slice.to_owned(),
            scratch,
        };
        docker.resume()?;
        Ok(docker)
    }

    /// Starts it again.
    pub fn resume(&mut self) -> Result<()> {
        let here = self.scratch.path();
        let mut command = with_programs(programs().join("usr/sbin/dockerd"));
        command
            .arg("--data-root")
            .arg(here.join("data"))
            .arg("--exec-root")
            .arg(here.join("exec"))
            .arg("--pidfile")
            .arg(here.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .arg("--add-runtime")
            .arg(format!("tollgate={}", here.join("runtime").display()))
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip-forward=false",
                "--ip-masq=false",
            ])
            .args(["--storage-driver=vfs", "--userland-proxy=false"]);
        let mut service = Service::start("dockerd", &mut command, &here.join("dockerd.log"))?;
        service.wait_for("it to listen", Duration::from_mins(1), |output| {
            output.contains("API listen on")
        })?;
        self.service = Some(service);
        Ok(())
    }

    /// Stops the engine; its containers end with it.
    pub fn stop(&mut self) {
        self.service = None;
    }

    /// Where its API is.
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("docker.sock")
    }

    /// Makes an image `name` with these labels; see [`Self::run`].
    pub fn image(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        let archive = image_archive(&self.scratch)?;
        let mut import = self.command("import");
        for (label, value) in labels {
            import.args(["--change", &format!("LABEL {label}={value}")]);
        }
        run(import.arg(archive).arg(name))?;
        Ok(())
    }

    /// `docker run` in the host's network, with the programs of [`root`], `more` arguments and the image `image`.
    pub fn run(&self, more: &[&str], image: &str) -> Command {
        let mut command = self.command("run");
        command.args(["--rm", "--network", "host", "--cgroup-parent"]);
        command.arg(format!("{}/docker", self.slice));
        for directory in ["usr", "etc"] {
            let there = root().join(directory);
            command.args(["-v", &format!("{}:/{directory}:ro", there.display())]);
        }
        command.args(more).arg(image);
        command
    }

    /// The client, with a verb of its own.
    pub fn command(&self, verb: &str) -> Command {
        let mut command = with_programs(programs().join("usr/bin/docker"));
        command
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .arg(verb);
        command
    }
}

/// The engine looks for its own programs by name.
fn with_programs(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    let path = std::env::var("PATH").unwrap_or_default();
    let own = programs();
    command.env("PATH", format!("{0}/usr/sbin:{0}/usr/bin:{path}", own.display()));
    command
}

impl Drop for Docker {
    fn drop(&mut self) {
        if self.service.is_some() {
            let running = run(self.command("ps").args(["--all", "--quiet"])).unwrap_or_default();
            for id in running.split_whitespace() {
                run(self.command("rm").args(["--force", id])).ok();
            }
        }
        self.service = None;
        // Its containerd ends with it.
        eventually("containerd to end", Duration::from_secs(10), || {
            let pid = self.scratch.path().join("exec/containerd/containerd.pid");
            let pid = std::fs::read_to_string(pid).unwrap_or_else(|_| "none".to_owned());
            (!Path::new("/proc").join(pid.trim()).exists()).then_some(())
        })
        .ok();
        // It keeps a mount of the host's network namespace.
        let kept = self.scratch.path().join("exec/netns/default");
        nix::mount::umount2(&kept, nix::mount::MntFlags::MNT_DETACH).ok();
        remove_slice(&self.slice);
    }
}
