//! Containers of real runtimes, from a root file system that `cargo xtask setup` makes with debootstrap.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::agent::{Agent, binary, workspace};
use crate::cgroup::mount_point;
use crate::process::{Service, eventually, run};
use crate::scratch::Scratch;

/// The root file system: a Debian with `psql`. Containers share it, and change nothing in it.
pub fn root() -> PathBuf {
    workspace().join("target/container-root-1")
}

/// The hook as the package has it, with this agent's binary and configuration.
pub(crate) fn hook(agent: &Agent, packaged: &str) -> Result<Value> {
    let path = workspace().join("packaging").join(packaged);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let text = text
        .replace("\"/usr/bin/tollgate\"", &json!(binary()).to_string())
        .replace(
            "\"oci-hook\"",
            &format!(
                "\"oci-hook\", \"--limit\", \"2\", \"--config\", {}",
                json!(agent.config())
            ),
        );
    Ok(serde_json::from_str(&text)?)
}

/// A container runtime, as podman calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// crun, which knows cgroup2 alone.
    Crun,
    /// runc, which knows the mixture of both versions as well.
    Runc,
}

/// A podman with folders of its own. Its containers are gone when it is dropped.
#[derive(Debug)]
pub struct Podman {
    scratch: Scratch,
    slice: String,
}

impl Podman {
    /// One whose containers get the packaged hook, for `agent`. They are all made below the cgroup `slice`.
    pub fn new(agent: &Agent, slice: &str) -> Result<Self> {
        // Podman takes no long names.
        let scratch = Scratch::new("p")?;
        let hooks = scratch.dir("hooks.d")?;
        std::fs::write(
            hooks.join("tollgate.json"),
            hook(agent, "tollgate-oci-hook.json")?.to_string(),
        )?;
        let here = scratch.path().display();
        // More open files than the test has itself it may not be able to give.
        let config = format!(
            "[engine]\nlock_type = \"file\"\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n\
             hooks_dir = [\"{here}/hooks.d\"]\ntmp_dir = \"{here}/tmp\"\n\n\
             [containers]\ndefault_ulimits = [\"nofile=512:512\", \"nproc=512:512\"]\n"
        );
        std::fs::write(scratch.path().join("containers.conf"), config)?;
        Ok(Self {
            scratch,
            slice: slice.to_owned(),
        })
    }

    /// `podman run` in the network namespace of process `pid`, without the image and what comes after it.
    pub fn run(&self, runtime: Runtime, pid: u32) -> Command {
        let mut command = self.podman(runtime);
        command
            .args(["run", "--rm", "--network", &format!("ns:/proc/{pid}/ns/net")])
            .arg("--annotation")
            .arg(format!("run.oci.hooks.stderr={}", self.said().display()));
        match runtime {
            // What it would need for limits of devices and processes, it does not get on every host.
            Runtime::Crun => command.args(["--privileged", "--pids-limit=-1"]),
            Runtime::Runc => &mut command,
        };
        command
    }

    /// A command of podman's that starts nothing: `ps`, `import`, `rm`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.podman(Runtime::Runc);
        command.args(arguments);
        command
    }

    /// Makes an image `name` with these labels, in which `/usr` and `/etc` are empty: [`Self::run_image`] puts those of
    /// [`root`] there.
    pub fn image(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        let archive = image_archive(&self.scratch)?;
        let mut import = self.command(&["import", "--quiet"]);
        for (label, value) in labels {
            import.args(["--change", &format!("LABEL {label}={value}")]);
        }
        run(import.arg(&archive).arg(name))?;
        Ok(())
    }

    /// As [`Self::run`], with `more` arguments and the image `image`.
    pub fn run_image(&self, pid: u32, more: &[&str], image: &str) -> Command {
        let mut command = self.run(Runtime::Runc, pid);
        for directory in ["usr", "etc"] {
            let there = root().join(directory);
            command.args(["-v", &format!("{}:/{directory}:ro", there.display())]);
        }
        command.args(more).arg(image);
        command
    }

    /// Its API, on a socket at [`Self::socket`], until it is dropped.
    pub fn serve(&self) -> Result<Service> {
        let socket = format!("unix://{}", self.socket().display());
        let mut command = self.command(&["system", "service", "--time", "0", &socket]);
        let log = self.scratch.path().join("service.log");
        let service = Service::start("podman system service", &mut command, &log)?;
        eventually("podman's service to listen", Duration::from_secs(20), || {
            std::os::unix::net::UnixStream::connect(self.socket()).ok()
        })?;
        Ok(service)
    }

    /// Where its API is.
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("podman.sock")
    }

    /// A directory without hooks, for `--hooks-dir`.
    pub fn no_hooks(&self) -> Result<PathBuf> {
        self.scratch.dir("no-hooks.d")
    }

    /// Where crun writes what hooks say.
    pub fn said(&self) -> PathBuf {
        self.scratch.path().join("hooks-said")
    }

    fn podman(&self, runtime: Runtime) -> Command {
        let mut command = match runtime {
            Runtime::Runc => Command::new("podman"),
            Runtime::Crun => {
                // The one hierarchy in the usual place, also where both versions are mounted.
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "sh", "-c"]);
                command.args([
                    "mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec podman \"$@\"",
                    "sh",
                ]);
                command
            }
        };
        let here = self.scratch.path();
        command
            .arg("--root")
            .arg(here.join("root"))
            .arg("--runroot")
            .arg(here.join("run"))
            .args(["--storage-driver", "vfs", "--runtime"])
            .arg(match runtime {
                Runtime::Crun => "crun",
                Runtime::Runc => "runc",
            })
            .env("CONTAINERS_CONF", here.join("containers.conf"));
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        run(self
            .podman(Runtime::Runc)
            .args(["rm", "--all", "--force", "--time", "0"]))
        .ok();
        remove_slice(&self.slice);
    }
}

/// A directory with a `config.json` for runc.
#[derive(Debug)]
pub struct Bundle {
    scratch: Scratch,
    slice: String,
    config: Value,
}

impl Bundle {
    /// A container in `cgroup`, which lies in `slice`, that runs `arguments` in a network namespace that runc makes.
    /// `plumbing` is a script that runs as its last hook, with the pid of its first process in `$pid`.
    pub fn new(slice: &str, cgroup: &str, arguments: &[&str], plumbing: &str) -> Result<Self> {
        let scratch = Scratch::new("bundle")?;
        run(Command::new("runc").arg("spec").current_dir(scratch.path()))?;
        let text = std::fs::read_to_string(scratch.path().join("config.json"))?;
        let mut config: Value = serde_json::from_str(&text)?;
        let script = format!("pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')\nset -e\n{plumbing}");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(arguments);
        config["process"]["rlimits"] = json!([]);
        config["root"] = json!({"path": root(), "readonly": true});
        config["linux"]["cgroupsPath"] = json!(cgroup);
        config["hooks"] = json!({"createRuntime": [{
            "path": "/bin/sh",
            "args": ["sh", "-c", script],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        }]});
        Ok(Self {
            scratch,
            slice: slice.to_owned(),
            config,
        })
    }

    /// Gives it an annotation.
    pub fn annotate(&mut self, key: &str, value: &str) {
        self.config["annotations"][key] = json!(value);
    }

    /// Has it run in the network namespace of process `pid`.
    pub fn in_network_of(&mut self, pid: u32) {
        let namespaces = self.config["linux"]["namespaces"].as_array_mut();
        for namespace in namespaces.into_iter().flatten() {
            if namespace["type"] == "network" {
                namespace["path"] = json!(format!("/proc/{pid}/ns/net"));
            }
        }
    }

    /// A command that runs the container to its end; with the packaged hook for `agent`, if there is one, which the packaged
    /// wrapper puts into the container's configuration.
    pub fn run(&self, agent: Option<&Agent>) -> Result<Command> {
        let here = self.scratch.path();
        std::fs::write(here.join("config.json"), self.config.to_string())?;
        let mut command = match agent {
            None => Command::new("runc"),
            Some(agent) => {
                let hooks = here.join("hooks.json");
                std::fs::write(&hooks, hook(agent, "runc-hooks.json")?.to_string())?;
                let mut command = Command::new(workspace().join("packaging/runc-with-tollgate"));
                command.env("TOLLGATE_HOOKS", hooks);
                command
            }
        };
        let id = here.file_name().context("a directory without a name")?;
        command
            .arg("--root")
            .arg(here.join("runc"))
            .args(["run", "--bundle"])
            .arg(here)
            .arg(id);
        Ok(command)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Some(id) = self.scratch.path().file_name() {
            let mut delete = Command::new("runc");
            delete.arg("--root").arg(self.scratch.path().join("runc"));
            run(delete.args(["delete", "--force"]).arg(id)).ok();
        }
        remove_slice(&self.slice);
    }
}

/// The content of an image in which `/usr` and `/etc` are empty.
pub(crate) fn image_archive(scratch: &Scratch) -> Result<PathBuf> {
    let content = scratch.dir("image")?;
    for link in ["bin", "sbin", "lib", "lib64"] {
        let at = content.join(link);
        if !at.is_symlink() {
            std::os::unix::fs::symlink(format!("usr/{link}"), at)?;
        }
    }
    for directory in ["usr", "etc", "proc", "dev", "sys", "tmp", "run", "root"] {
        std::fs::create_dir_all(content.join(directory))?;
    }
    let archive = scratch.path().join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&content).arg("-cf").arg(&archive).arg(".");
    run(&mut tar)?;
    Ok(archive)
}

/// Removes what a runtime made of a slice, in the hierarchies of both versions.
pub(crate) fn remove_slice(slice: &str) {
    let mounted = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    for hierarchy in mounted.map(|entry| entry.path()).chain(mount_point()) {
        remove_empty(&hierarchy.join(slice.trim_start_matches('/')));
    }
}

fn remove_empty(directory: &Path) {
    for child in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&child.path());
        }
    }
    std::fs::remove_dir(directory).ok();
}
