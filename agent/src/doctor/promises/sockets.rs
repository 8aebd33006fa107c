//! Kinds of sockets that a workload does not get.

use nix::errno::Errno;

use super::super::scene::{Scene, Trouble};
use super::super::workload::SocketKind;
use super::{Found, Promise, refused};

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        title: "a workload gets no MPTCP socket",
        programs: &["tollgate_socket"],
        broken: "workloads connect by ways that the redirection does not see",
        attempt: |scene| made(scene, SocketKind::Mptcp, Errno::EPROTONOSUPPORT),
    },
    Promise {
        title: "a workload gets no raw socket, not even as root",
        programs: &["tollgate_socket"],
        broken: "root in a workload writes packets of its own",
        attempt: |scene| made(scene, SocketKind::Raw, Errno::EPERM),
    },
];

fn made(scene: &mut Scene, kind: SocketKind, errno: Errno) -> Result<Found, Trouble> {
    let mut tried = Vec::new();
    for (name, v6) in [("IPv4", false), ("IPv6", true)] {
        let (_, outside) = scene.outside()?.open(kind, v6)?;
        let (_, inside) = scene.inside()?.open(kind, v6)?;
        let found = if outside.is(errno) {
            Found::NotHere("this host gives none to anybody".to_owned())
        } else {
            refused(&inside, errno)
        };
        tried.push((name, found));
    }
    Ok(Found::all(tried))
}
