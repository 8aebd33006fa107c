//! Unix sockets of services on this host.

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::super::leftovers::{self, Name};
use super::super::scene::{BRIEFLY, Scene, Trouble, wait};
use super::super::workload::{Deed, Outcome, SocketKind, Workload};
use super::{Found, Promise, refused};
use crate::model::SocketPath;

const OPEN: &str = "workloads reach a database's unix socket without the proxy";

pub(super) const PROMISES: &[Promise] = &[
    Promise {
        title: "a connection to a unix socket that a policy names goes to the agent",
        programs: &["tollgate_unix"],
        broken: OPEN,
        attempt: |scene| {
            attempt(scene, |sockets, workload| {
                let (_, outcome) = connect(workload, &sockets.database)?;
                Ok(match (sockets.at_agent()?, sockets.at_database()?, outcome) {
                    (true, false, Outcome::Done) => Found::Holds("it came to the agent".to_owned()),
                    (_, true, _) => Found::Broken("it came to the socket itself".to_owned()),
                    (_, _, outcome) => Found::Broken(outcome.words()),
                })
            })
        },
    },
    Promise {
        title: "the same socket by another spelling is refused",
        programs: &["tollgate_unix"],
        broken: OPEN,
        attempt: |scene| {
            attempt(scene, |sockets, workload| {
                let spelled = sockets
                    .dir
                    .join("..")
                    .join(sockets.dir.file_name().unwrap_or_default());
                let (_, outcome) = connect(workload, &spelled.join(DATABASE))?;
                Ok(refused(&outcome, Errno::EPERM))
            })
        },
    },
    Promise {
        title: "its program sees the unix socket that it asked for",
        programs: &["tollgate_unix_peer"],
        broken: "programs that compare the path that they are connected to fail",
        attempt: |scene| {
            attempt(scene, |sockets, workload| {
                let (socket, _) = connect(workload, &sockets.database)?;
                let peer = workload.tell(Deed::Peer { socket })?;
                Ok(if peer == Outcome::PeerUnix(sockets.database.clone()) {
                    Found::Holds(peer.words())
                } else {
                    Found::Broken(peer.words())
                })
            })
        },
    },
    Promise {
        title: "the same socket by a link of another name is refused",
        programs: &["tollgate_unix_link"],
        broken: "",
        attempt: |scene| {
            attempt(scene, |sockets, workload| {
                let link = sockets.dir.join("link");
                fs::hard_link(&sockets.database, &link)?;
                let (_, outcome) = connect(workload, &link)?;
                Ok(refused(&outcome, Errno::EPERM))
            })
        },
    },
];

const DATABASE: &str = "database";
const AGENT: &str = "agent";

/// A database's socket and the agent's, in a directory of their own.
struct Sockets {
    dir: PathBuf,
    database: PathBuf,
    at_database: UnixListener,
    at_agent: UnixListener,
}

impl Sockets {
    fn make() -> io::Result<Self> {
        let dir = Name::new().below(Path::new(leftovers::UNIX));
        fs::create_dir(&dir)?;
        let listen = |name| {
            let listener = UnixListener::bind(dir.join(name))?;
            listener.set_nonblocking(true)?;
            io::Result::Ok(listener)
        };
        let made = listen(DATABASE).and_then(|database| Ok((database, listen(AGENT)?)));
        match made {
            Ok((at_database, at_agent)) => Ok(Self {
                database: dir.join(DATABASE),
                dir,
                at_database,
                at_agent,
            }),
            Err(error) => {
                leftovers::remove_sockets(&dir);
                Err(error)
            }
        }
    }

    fn at_agent(&self) -> io::Result<bool> {
        wait(&self.at_agent, BRIEFLY)
    }

    fn at_database(&self) -> io::Result<bool> {
        wait(&self.at_database, BRIEFLY)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        leftovers::remove_sockets(&self.dir);
    }
}

fn attempt(
    scene: &mut Scene,
    what: impl FnOnce(&Sockets, &mut Workload) -> Result<Found, Trouble>,
) -> Result<Found, Trouble> {
    let sockets = Sockets::make()?;
    let path = sockets.database.to_str().and_then(SocketPath::parse);
    let path = path.ok_or_else(|| io::Error::other("the socket's path has no text"))?;
    scene.visit.redirect_unix(&path, &sockets.dir.join(AGENT))?;
    what(&sockets, scene.inside()?)
}

fn connect(workload: &mut Workload, path: &Path) -> io::Result<(u32, Outcome)> {
    let (socket, opened) = workload.open(SocketKind::Unix, false)?;
    if opened != Outcome::Done {
        return Ok((socket, opened));
    }
    let path = path.to_owned();
    Ok((socket, workload.tell(Deed::ConnectUnix { socket, path })?))
}
