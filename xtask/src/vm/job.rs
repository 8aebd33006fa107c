//! What runs in the machine: an archive of its own on top of the root file system, which is built once.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cpio::Cpio;

/// The init of a boot without systemd.
pub(super) const INIT: &str = "/opt/tollgate/init";

/// Folder of the machine in which the job's files lie.
pub(super) const HOME: &str = "/opt/tollgate";

/// Steps, one after the other, and files that they need.
#[derive(Default)]
pub(super) struct Job {
    /// Name (one word) and shell text.
    pub(super) steps: Vec<(String, String)>,
    /// Files of the host that lie in [`HOME`] under the given name. They keep whether they are executable.
    pub(super) files: Vec<(String, PathBuf)>,
    /// Folders of the host that lie there.
    pub(super) trees: Vec<(String, PathBuf)>,
    /// Environment of every step.
    pub(super) environment: Vec<(String, String)>,
}

impl Job {
    /// Writes the archive below `work`.
    pub(super) fn archive(&self, work: &Path, word: &str, systemd: bool, lsm: bool) -> Result<PathBuf> {
        let path = work.join("job.cpio");
        let mut cpio = Cpio::create(&path)?;
        cpio.directory("opt/tollgate")?;
        for (name, file) in &self.files {
            let content = fs::read(file).with_context(|| format!("read {}", file.display()))?;
            cpio.file(&format!("opt/tollgate/{name}"), &content, is_executable(file)?)?;
        }
        for (name, tree) in &self.trees {
            let name = format!("opt/tollgate/{name}");
            cpio.directory(&name)?;
            cpio.tree(tree, Path::new(&name), &|_| false)?;
        }
        cpio.file("opt/tollgate/init", init(systemd).as_bytes(), true)?;
        cpio.file("opt/tollgate/job", self.script(word, lsm).as_bytes(), true)?;
        for (number, (_, text)) in self.steps.iter().enumerate() {
            cpio.file(&format!("opt/tollgate/step-{number}"), text.as_bytes(), true)?;
        }
        if systemd {
            cpio.file("etc/systemd/system/tollgate-job.service", UNIT.as_bytes(), false)?;
            cpio.directory("etc/systemd/system/multi-user.target.wants")?;
            cpio.link(
                "etc/systemd/system/multi-user.target.wants/tollgate-job.service",
                "../tollgate-job.service",
            )?;
        }
        cpio.finish()?;
        Ok(path)
    }

    fn script(&self, word: &str, lsm: bool) -> String {
        let mut lines = vec![
            "#!/bin/sh".to_owned(),
            "exec </dev/null >/dev/ttyS1 2>&1".to_owned(),
            "stty -F /dev/ttyS1 raw -echo".to_owned(),
            "ulimit -c 0".to_owned(),
            // Debian does not load some of them by themselves; who attacks may have had them loaded.
            "modprobe -qa sctp dccp_ipv4 dccp_ipv6 smc vsock_loopback tun".to_owned(),
            "ip link set lo up".to_owned(),
            "cd /root".to_owned(),
            "export HOME=/root LANG=C.UTF-8".to_owned(),
            "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ];
        if lsm {
            // Tests of programs on security hooks must not pass for want of them.
            lines.push("export TOLLGATE_TEST_LSM=1".to_owned());
        }
        for (name, value) in &self.environment {
            lines.push(format!("export {name}={}", quoted(value)));
        }
        for (number, (name, _)) in self.steps.iter().enumerate() {
            lines.push(format!("echo '{word} begin {name}'"));
            lines.push(format!("/bin/sh {HOME}/step-{number}"));
            lines.push(format!("echo '{word} end {name}' $?"));
        }
        // The task ends the machine when it reads this; where it does not, the machine ends itself.
        lines.push(format!("echo '{word} done'"));
        lines.push("echo o >/proc/sysrq-trigger".to_owned());
        lines.push("sleep 60\n".to_owned());
        lines.join("\n")
    }
}

/// `text` as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The first process of either kind of boot. Without systemd it does what that would do, as far as tests need it.
fn init(systemd: bool) -> String {
    // Nobody can pivot_root out of the kernel's first root, as container runtimes do; out of a bind mount over it
    // everybody can.
    let new_root = "#!/bin/sh\nmount -n --bind / /mnt && cd /mnt && mount -n --move . / || exit 1\n";
    if systemd {
        return format!("{new_root}exec chroot . /sbin/init\n");
    }
    format!(
        "{new_root}exec chroot . /bin/sh -c '\n\
         mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs devtmpfs /dev\n\
         mkdir -p /dev/pts /dev/shm\nmount -t devpts devpts /dev/pts\nmount -t tmpfs tmpfs /dev/shm\n\
         mount -t tmpfs tmpfs /run\nmount -t tmpfs tmpfs /tmp\nchmod 1777 /tmp /dev/shm\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\nmount -t bpf bpf /sys/fs/bpf\n\
         mount -t tracefs tracefs /sys/kernel/tracing\nmount -t securityfs securityfs /sys/kernel/security\n\
         mount --make-rshared /\nhostname tollgate-vm\nexec /bin/sh {HOME}/job'\n"
    )
}

const UNIT: &str = "[Unit]\nDescription=What the virtual machine was started for\nAfter=multi-user.target\n\n\
                    [Service]\nType=simple\nExecStart=/opt/tollgate/job\nTasksMax=infinity\n\
                    LimitMEMLOCK=infinity\nLimitNOFILE=65536\n\n[Install]\nWantedBy=multi-user.target\n";

/// A word that a step cannot know, so that nothing that it prints is taken for a frame.
pub(super) fn random_word() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("@tollgate-{:032x}@", u128::from_ne_bytes(bytes)))
}

fn is_executable(file: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(file)?.permissions().mode() & 0o100 != 0)
}
