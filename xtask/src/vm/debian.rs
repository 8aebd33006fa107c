//! Kernels and a root file system from Debian, fetched once and kept below the cache folder.
//!
//! The host's own package sources are neither read nor changed: apt runs with a configuration of its own, and nothing is
//! installed. Kernels come as packages that are unpacked, the root file system from debootstrap.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::cpio::Cpio;
use super::{Unavailable, Version};
use crate::setup;

/// The release whose kernel is the oldest supported one.
const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// 6.12 is there too: Debian gives it to its stable release as a second kernel.
const SECURITY: &str = "http://deb.debian.org/debian-security";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What the machine has besides debootstrap's minimal set.
const PACKAGES: &str = include_str!("../../../vagrant/packages");

/// Of no use in a machine that runs tests.
const LEFT_OUT: [&str; 8] = [
    "dev",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
];

/// Parts of a kernel's modules that tests may need: protocols, and interfaces without hardware.
///
/// Newer kernels' modules are compressed.
const MODULES: [&str; 14] = [
    "kernel/net",
    "kernel/lib",
    "kernel/crypto",
    "kernel/arch/x86/crypto",
    "kernel/fs/autofs",
    "kernel/fs/overlayfs",
    "kernel/drivers/vhost",
    // What SMC leans on.
    "kernel/drivers/infiniband/core",
    "kernel/drivers/net/dummy.ko",
    "kernel/drivers/net/dummy.ko.xz",
    "kernel/drivers/net/tun.ko",
    "kernel/drivers/net/tun.ko.xz",
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/veth.ko.xz",
];

/// One kernel, unpacked.
pub(super) struct Kernel {
    /// The image that QEMU starts.
    pub(super) image: PathBuf,
    /// Its modules, as an archive.
    pub(super) modules: PathBuf,
    /// `uname -r`.
    pub(super) release: String,
}

/// Debian's newest kernel of `version`; the one in the cache if there is one with these modules.
pub(super) fn kernel(cache: &Path, version: Version) -> Result<Kernel> {
    let mut hasher = DefaultHasher::new();
    MODULES.hash(&mut hasher);
    let home = cache.join(format!("kernel-{version}-{:016x}", hasher.finish()));
    if !home.exists() {
        fetch_kernel(cache, version, &home)?;
    }
    let release = fs::read_to_string(home.join("release"))?;
    Ok(Kernel {
        image: home.join("vmlinuz"),
        modules: home.join("modules.cpio"),
        release,
    })
}

fn fetch_kernel(cache: &Path, version: Version, home: &Path) -> Result<()> {
    setup::packages(&[("kmod", "/sbin/depmod")])?;
    let work = tempfile::tempdir_in(cache)?;
    let apt = private_apt(work.path())?;
    let name = newest(&apt, version)?;
    setup::say(&format!(
        "Debian's {name} (unpacked below {}, not installed)",
        cache.display()
    ));
    run(Command::new("apt-get")
        .arg("-c")
        .arg(&apt)
        .args(["download", "--quiet=2"])
        .arg(&name)
        .current_dir(work.path()))?;
    let package = fs::read_dir(work.path())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    let tree = work.path().join("tree");
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&tree))?;
    let release = name.trim_start_matches("linux-image-");
    let ready = work.path().join("ready");
    fs::create_dir(&ready)?;
    fs::rename(
        tree.join("boot").join(format!("vmlinuz-{release}")),
        ready.join("vmlinuz"),
    )?;
    pack_modules(&tree, release, &ready.join("modules.cpio"))?;
    fs::write(ready.join("release"), release)?;
    fs::rename(&ready, home).context("move the kernel into place")
}

fn pack_modules(tree: &Path, release: &str, archive: &Path) -> Result<()> {
    let all = tree.join("lib/modules").join(release);
    let chosen = tree.join("chosen");
    let place = format!("usr/lib/modules/{release}");
    for part in MODULES.iter().filter(|part| all.join(part).exists()) {
        let to = chosen.join(&place).join(part);
        fs::create_dir_all(to.parent().context("a part of the modules has a parent")?)?;
        fs::rename(all.join(part), to)?;
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        if all.join(list).exists() {
            fs::rename(all.join(list), chosen.join(&place).join(list))?;
        }
    }
    // It looks below /lib, which in the machine is a link to /usr/lib.
    std::os::unix::fs::symlink("usr/lib", chosen.join("lib"))?;
    run(Command::new("depmod").arg("-b").arg(&chosen).arg(release))?;
    let mut cpio = Cpio::create(archive)?;
    cpio.tree(&chosen, Path::new(""), &|name| name == Path::new("lib"))?;
    cpio.finish()?;
    Ok(())
}

/// The root file system as an archive, made once for each list of packages.
pub(super) fn root(cache: &Path) -> Result<PathBuf> {
    let packages: Vec<&str> = PACKAGES.lines().filter(|line| !line.starts_with('#')).collect();
    let mut hasher = DefaultHasher::new();
    (SUITE, &packages, LEFT_OUT).hash(&mut hasher);
    // The number is of what else an archive has: the files' times, from the second on.
    let archive = cache.join(format!("root-2-{:016x}.cpio", hasher.finish()));
    if archive.exists() {
        return Ok(archive);
    }
    setup::packages(&[("debootstrap", "/usr/sbin/debootstrap")])?;
    setup::say(&format!(
        "a Debian root file system for virtual machines (below {}; about two minutes): {}",
        cache.display(),
        packages.join(" ")
    ));
    let work = tempfile::tempdir_in(cache)?;
    let tree = work.path().join("root");
    run(Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={}", packages.join(","))])
        .arg(SUITE)
        .arg(&tree)
        .arg(MIRROR))?;
    let unfinished = work.path().join("root.cpio");
    let mut cpio = Cpio::create(&unfinished)?;
    // What a kernel without an initramfs of Debian's own has before devtmpfs is mounted.
    cpio.directory("dev")?;
    cpio.device("dev/console", 5, 1)?;
    cpio.device("dev/null", 1, 3)?;
    cpio.tree(&tree, Path::new(""), &|name| {
        LEFT_OUT.iter().any(|out| name == Path::new(out))
    })?;
    cpio.directory("var/log")?;
    cpio.finish()?;
    fs::rename(&unfinished, &archive).context("move the root file system into place")?;
    Ok(archive)
}

/// A configuration of apt that knows Debian's own archive alone and writes below `work`.
fn private_apt(work: &Path) -> Result<PathBuf> {
    ensure!(
        Path::new(KEYRING).exists(),
        Unavailable(format!(
            "{KEYRING} is missing (Debian's package debian-archive-keyring)"
        ))
    );
    let dir = work.join("apt");
    for name in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(dir.join(name))?;
    }
    fs::write(dir.join("status"), "")?;
    fs::write(
        dir.join("sources.list"),
        format!(
            "deb [arch=amd64 signed-by={KEYRING}] {MIRROR} {SUITE} main\n\
             deb [arch=amd64 signed-by={KEYRING}] {SECURITY} {SUITE}-security main\n"
        ),
    )?;
    let at = dir.display();
    let config = dir.join("apt.conf");
    fs::write(
        &config,
        format!(
            "Dir::State \"{at}/state\";\nDir::State::status \"{at}/status\";\nDir::Cache \"{at}/cache\";\n\
             Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::Etc::parts \"-\";\nAPT::Architecture \"amd64\";\nAPT::Architectures \"amd64\";\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAPT::Update::Error-Mode \"any\";\n"
        ),
    )?;
    run(Command::new("apt-get")
        .arg("-c")
        .arg(&config)
        .args(["update", "--quiet=2"]))?;
    Ok(config)
}

/// The package of `version` with the highest number.
fn newest(apt: &Path, version: Version) -> Result<String> {
    let output = Command::new("apt-cache")
        .arg("-c")
        .arg(apt)
        .args(["pkgnames", &format!("linux-image-{version}.")])
        .output()
        .context("start apt-cache")?;
    let names = String::from_utf8(output.stdout)?;
    names
        .lines()
        .filter_map(|name| Some((abi(name, version)?, name)))
        .max()
        .map(|(_, name)| name.to_owned())
        .ok_or_else(|| Unavailable(format!("{SUITE} has no kernel {version}")).into())
}

/// The number that Debian counts up within a version: `linux-image-6.1.0-56-amd64`, `linux-image-6.12.117+deb12-amd64`.
fn abi(package: &str, version: Version) -> Option<u32> {
    let rest = package
        .strip_prefix("linux-image-")?
        .strip_prefix(&version.to_string())?
        .strip_suffix("-amd64")?;
    let number = match rest.strip_prefix(".0-") {
        Some(counted) => counted,
        None => rest.strip_prefix('.')?.strip_suffix("+deb12")?,
    };
    number.parse().ok()
}

/// Runs a tool of Debian's; what it cannot do makes the machines unavailable, with its own words.
fn run(command: &mut Command) -> Result<()> {
    setup::run(command).map_err(|error| Unavailable(format!("{error:#}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_for_plain_machines_are_told_from_others_by_name() {
        for (name, version, expected) in [
            ("linux-image-6.1.0-56-amd64", Version::V6_1, Some(56)),
            ("linux-image-6.1.0-56-cloud-amd64", Version::V6_1, None),
            ("linux-image-6.1.0-56-amd64-unsigned", Version::V6_1, None),
            ("linux-image-6.12.117+deb12-amd64", Version::V6_12, Some(117)),
            ("linux-image-6.12.117+deb12-rt-amd64", Version::V6_12, None),
            ("linux-image-6.12.117+deb12-amd64", Version::V6_1, None),
            ("linux-image-6.12-amd64", Version::V6_12, None),
        ] {
            assert_eq!(abi(name, version), expected, "{name} {version}");
        }
    }
}
