//! What the host has to have, checked before anything is loaded, so that each lack gets its own sentence.

use std::fs;
use std::path::Path;

use super::KernelError;
use super::cgroup2::Cgroup2;

/// Oldest kernel: Debian 12's.
const FLOOR: (u32, u32) = (6, 1);

/// `/proc/PID/ns/pid` of the initial pid namespace (`PROC_PID_INIT_INO` in the kernel).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Capabilities with their bits (linux/capability.h).
const CAPABILITIES: [(&str, u32); 6] = [
    ("CAP_BPF", 39),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_SYS_PTRACE", 19),
];

/// One thing that the host has to have.
#[derive(Debug)]
pub struct Requirement {
    /// What it is, in a few words.
    pub what: &'static str,
    /// What was found.
    pub found: Result<String, KernelError>,
}

/// Checks the kernel's version and features, the mounts, and the capabilities of this process: the first lack.
pub fn check() -> Result<(), KernelError> {
    survey().into_iter().try_for_each(|one| one.found.map(drop))
}

/// Looks at each of them, whether those before it are there or not.
pub fn survey() -> Vec<Requirement> {
    let mut all = vec![
        Requirement {
            what: "Linux 6.1 or newer",
            found: release().and_then(|release| check_release(&release).map(|()| release)),
        },
        Requirement {
            what: "BTF of the kernel",
            found: btf(),
        },
    ];
    let status = fs::read_to_string("/proc/self/status");
    for (capability, bit) in CAPABILITIES {
        let found = status.as_ref().map_or_else(
            |error| {
                let error = std::io::Error::from(error.kind());
                Err(KernelError::system("reading /proc/self/status")(error))
            },
            |status| check_capability(status, capability, bit).map(|()| "held".to_owned()),
        );
        all.push(Requirement {
            what: capability,
            found,
        });
    }
    all.extend([
        Requirement {
            what: "the host's pid namespace",
            found: pid_namespace(),
        },
        Requirement {
            what: "cgroup2",
            found: Cgroup2::discover().map(|found| format!("mounted at {}", found.mount().display())),
        },
    ]);
    all
}

fn release() -> Result<String, KernelError> {
    let name = nix::sys::utsname::uname().map_err(|errno| KernelError::system("uname")(errno.into()))?;
    Ok(name.release().to_string_lossy().into_owned())
}

fn btf() -> Result<String, KernelError> {
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    if Path::new(PATH).exists() {
        Ok(PATH.to_owned())
    } else {
        Err(KernelError::NoBtf)
    }
}

fn pid_namespace() -> Result<String, KernelError> {
    let namespace =
        fs::read_link("/proc/self/ns/pid").map_err(KernelError::system("reading /proc/self/ns/pid"))?;
    if namespace == Path::new(INITIAL_PID_NAMESPACE) {
        Ok("this process is in it".to_owned())
    } else {
        Err(KernelError::PidNamespace)
    }
}

/// What cannot be read as a version passes: the load itself will tell.
fn check_release(release: &str) -> Result<(), KernelError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < FLOOR => Err(KernelError::OldKernel {
            release: release.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_capability(status: &str, capability: &'static str, bit: u32) -> Result<(), KernelError> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    if effective & (1 << bit) == 0 {
        Err(KernelError::NoCapability { capability })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_named() {
        for release in ["5.15.0-91-generic", "6.0.19", "4.18.0-553.el8_10.x86_64"] {
            let message = check_release(release).unwrap_err().to_string();
            assert!(message.contains(release) && message.contains("6.1"), "{message}");
        }
        for release in ["6.1.0-18-amd64", "6.18.5", "7.0.0", "10.2"] {
            check_release(release).unwrap();
        }
    }

    #[test]
    fn the_missing_capability_is_named() {
        let lacking = |mask: &str| {
            let status = format!("CapInh:\t0\nCapEff:\t{mask}\n");
            CAPABILITIES
                .into_iter()
                .try_for_each(|(capability, bit)| check_capability(&status, capability, bit))
        };
        lacking("000001ffffffffff").unwrap();
        assert!(
            lacking("0000000000000000")
                .unwrap_err()
                .to_string()
                .contains("CAP_BPF")
        );
        assert!(
            lacking("0000017fffffffff")
                .unwrap_err()
                .to_string()
                .contains("CAP_BPF")
        );
        assert!(
            lacking("000001ffffffefff")
                .unwrap_err()
                .to_string()
                .contains("CAP_NET_ADMIN")
        );
    }
}
