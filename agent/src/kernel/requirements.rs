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

/// Checks the kernel's version and features, the mounts, and the capabilities of this process.
pub fn check() -> Result<(), KernelError> {
    let release = nix::sys::utsname::uname()
        .map_err(|errno| KernelError::system("uname")(errno.into()))?
        .release()
        .to_string_lossy()
        .into_owned();
    check_release(&release)?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(KernelError::NoBtf);
    }
    let status =
        fs::read_to_string("/proc/self/status").map_err(KernelError::system("reading /proc/self/status"))?;
    check_capabilities(&status)?;
    let namespace =
        fs::read_link("/proc/self/ns/pid").map_err(KernelError::system("reading /proc/self/ns/pid"))?;
    if namespace != Path::new(INITIAL_PID_NAMESPACE) {
        return Err(KernelError::PidNamespace);
    }
    Cgroup2::discover().map(drop)
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

fn check_capabilities(status: &str) -> Result<(), KernelError> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    match CAPABILITIES.iter().find(|(_, bit)| effective & (1 << bit) == 0) {
        Some((capability, _)) => Err(KernelError::NoCapability { capability }),
        None => Ok(()),
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
        let lacking = |mask: &str| check_capabilities(&format!("CapInh:\t0\nCapEff:\t{mask}\n"));
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
