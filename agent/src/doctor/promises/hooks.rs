//! What programs on security hooks stop: ways around addresses of sockets and around cgroups.
//!
//! Each is tried by a process outside first: what nobody can do here says nothing of a workload. Nothing is done that
//! outlasts the attempt, whether it is stopped or not.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;

use nix::errno::Errno;

use super::super::leftovers::Name;
use super::super::scene::{Scene, Trouble};
use super::super::workload::{Deed, Outcome, SocketKind, Workload};
use super::{Found, Promise, refused};

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        title: "a workload gets no packet socket and no vsock, not even as root",
        programs: &["tollgate_family"],
        broken: "",
        attempt: families,
    },
    Promise {
        title: "on a connection that somebody else made a workload sends nothing",
        programs: &["tollgate_sendmsg"],
        broken: "",
        attempt: |scene| {
            let (mut workload, socket, _stream) = brought_in(scene)?;
            Ok(refused(&workload.tell(Deed::Send { socket })?, Errno::EPERM))
        },
    },
    Promise {
        title: "on a connection that somebody else made a workload receives nothing",
        programs: &["tollgate_recvmsg"],
        broken: "",
        attempt: |scene| {
            let (mut workload, socket, mut stream) = brought_in(scene)?;
            stream.write_all(b"x")?;
            Ok(refused(&workload.tell(Deed::Take { socket })?, Errno::EPERM))
        },
    },
    Promise {
        title: "nor does it by an option that receives (TCP_ZEROCOPY_RECEIVE)",
        programs: &["tollgate_option"],
        broken: "",
        attempt: |scene| {
            let (mut workload, socket, mut stream) = brought_in(scene)?;
            stream.write_all(b"x")?;
            Ok(refused(
                &workload.tell(Deed::TakeByOption { socket })?,
                Errno::EPERM,
            ))
        },
    },
    Promise {
        title: "a file of the cgroup tree that somebody opened for a workload is of no use to it",
        programs: &["tollgate_file"],
        broken: "",
        attempt: opened_before,
    },
    Promise {
        title: "a workload does not get out of its cgroup, nor at pins, not even as root",
        programs: &["tollgate_inode"],
        broken: "",
        attempt: cgroups_and_pins,
    },
    Promise {
        title: "a workload does not take over a process outside it",
        programs: &["tollgate_ptrace"],
        broken: "",
        attempt: taken_over,
    },
    Promise {
        title: "a workload cannot send the agent a signal",
        programs: &["tollgate_kill"],
        broken: "",
        attempt: |scene| {
            let process = i32::try_from(scene.visit.agent()?).unwrap_or(0);
            if process == 0 {
                return Ok(Found::NotHere("there is no agent".to_owned()));
            }
            by_both(scene, &Deed::MaySignal { process }, Errno::EPERM)
        },
    },
    Promise {
        title: "a workload has no say in programs of the kernel's",
        programs: &["tollgate_bpf"],
        broken: "",
        attempt: |scene| {
            let path = scene.cgroups.root().to_owned();
            by_both(scene, &Deed::Programs { path }, Errno::EPERM)
        },
    },
    Promise {
        title: "a workload does not read the kernel's memory, not even as root",
        programs: &["tollgate_locked_down"],
        broken: "",
        attempt: |scene| {
            let memory = Path::new("/proc/kcore");
            let (_, outside) = scene.outside()?.open_file(memory, false)?;
            let (_, inside) = scene.inside()?.open_file(memory, false)?;
            Ok(compared(&outside, &inside, Errno::EPERM))
        },
    },
];

/// Holds if it is refused inside with `errno`; where it is refused outside as well, there is nothing to try.
fn compared(outside: &Outcome, inside: &Outcome, errno: Errno) -> Found {
    if *outside == Outcome::Done {
        refused(inside, errno)
    } else {
        Found::NotHere(format!("nobody can here: {}", outside.words()))
    }
}

fn by_both(scene: &mut Scene, deed: &Deed, errno: Errno) -> Result<Found, Trouble> {
    let outside = scene.outside()?.tell(deed.clone())?;
    let inside = scene.inside()?.tell(deed.clone())?;
    Ok(compared(&outside, &inside, errno))
}

fn families(scene: &mut Scene) -> Result<Found, Trouble> {
    let mut tried = Vec::new();
    for (name, kind) in [("packet", SocketKind::Packet), ("vsock", SocketKind::Vsock)] {
        let (_, outside) = scene.outside()?.open(kind, false)?;
        let (_, inside) = scene.inside()?.open(kind, false)?;
        tried.push((name, compared(&outside, &inside, Errno::EPERM)));
    }
    Ok(Found::all(tried))
}

/// A process that is outside.
fn outside(scene: &Scene) -> Result<Workload, Trouble> {
    Ok(Workload::start(&scene.launcher, &scene.stage, None)?)
}

/// A process that has connected outside and been brought under the policy, its socket, and the destination's end.
fn brought_in(scene: &mut Scene) -> Result<(Workload, u32, TcpStream), Trouble> {
    let to = scene.target(false);
    let mut workload = outside(scene)?;
    let (socket, connected) = workload.connect(to)?;
    let arrived = scene.at_target(false)?;
    let (stream, _) = arrived.ok_or_else(|| std::io::Error::other(connected.words()))?;
    workload.enter(&scene.cgroups.job)?;
    Ok((workload, socket, stream))
}

/// Not `cgroup.procs`: there the kernel asks for the permission of its directory as well, at each write.
fn opened_before(scene: &mut Scene) -> Result<Found, Trouble> {
    let mut workload = outside(scene)?;
    let limit = scene.cgroups.nursery.join("cgroup.max.descendants");
    let (file, opened) = workload.open_file(&limit, true)?;
    if opened != Outcome::Done {
        return Ok(Found::NotHere(format!("nobody can here: {}", opened.words())));
    }
    workload.enter(&scene.cgroups.job)?;
    // As it is.
    let text = "max".to_owned();
    Ok(refused(&workload.tell(Deed::Write { file, text })?, Errno::EPERM))
}

fn cgroups_and_pins(scene: &mut Scene) -> Result<Found, Trouble> {
    let procs = scene.cgroups.nursery.join("cgroup.procs");
    let (_, opened) = scene.inside()?.open_file(&procs, true)?;
    let path = Name::new().below(scene.visit.pin_dir());
    let made = scene.inside()?.tell(Deed::MakeDir { path: path.clone() })?;
    if made == Outcome::Done {
        fs::remove_dir(path)?;
    }
    Ok(Found::all([
        ("cgroup.procs", refused(&opened, Errno::EPERM)),
        ("pins", refused(&made, Errno::EPERM)),
    ]))
}

/// By its memory, which is guarded in the same way as its descriptors and its registers.
fn taken_over(scene: &mut Scene) -> Result<Found, Trouble> {
    let memory = |workload: &Workload| Path::new("/proc").join(workload.process()).join("mem");
    let victim = outside(scene)?;
    let (_, outside) = scene.outside()?.open_file(&memory(&victim), false)?;
    let (_, inside) = scene.inside()?.open_file(&memory(&victim), false)?;
    Ok(compared(&outside, &inside, Errno::EACCES))
}
