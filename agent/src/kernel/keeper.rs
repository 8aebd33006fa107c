//! Keeps the classification of cgroups current as they come and go.
//!
//! New cgroups are classified by the kernel side, before anybody is in them; this thread says which patterns count, and
//! makes sure of the rest. Where the kernel refuses that program, or has no room for a pattern, there is no window
//! either: a cgroup that is not classified, below one where a pattern might match, is refused what any policy protects
//! or refuses, and this thread makes that moment short. inotify says which directory changed; what is true is read from
//! the file system each time, so an event that is late, doubled or lost does no harm.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::cgroup2::{Cgroup2, id_of_directory};
use super::{Decided, Kernel, KernelError, Patterns, Standing};
use crate::model::{CgroupId, CgroupPath, PolicyId};

/// A managed cgroup that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedCgroup {
    /// Where it is.
    pub path: CgroupPath,
    /// Its policy.
    pub policy: PolicyId,
    /// The selector of the policy that it was found by, in words.
    pub by: Arc<str>,
}

/// Every managed cgroup that exists.
pub type ManagedCgroups = Arc<BTreeMap<CgroupId, ManagedCgroup>>;

/// Cgroups of which it has to be found out yet under which policy they are.
pub type AwaitedCgroups = Arc<BTreeMap<CgroupId, CgroupPath>>;

/// Patterns to classify by, and where the thread says whether it has.
type Inbox = Arc<Mutex<Option<(Patterns, SyncSender<Result<(), KernelError>>)>>>;

impl Patterns {
    /// The cgroups that are there and of which it is not known yet under which policy they are.
    pub fn not_decided(&self, cgroup2: &Cgroup2) -> BTreeMap<CgroupId, CgroupPath> {
        let mut found = BTreeMap::new();
        self.collect_not_decided(cgroup2, "", &mut found);
        found
    }

    fn collect_not_decided(&self, cgroup2: &Cgroup2, path: &str, found: &mut BTreeMap<CgroupId, CgroupPath>) {
        let at = cgroup_path(path);
        let Some(id) = cgroup2.id_of(&at) else {
            return;
        };
        let levels: Vec<&str> = path.split('/').filter(|level| !level.is_empty()).collect();
        let look = self.look(&levels);
        if !look.asked.is_empty() && self.decide(id, &at, &look.asked) == Decided::NotYet {
            found.insert(id, at);
            return;
        }
        if look.standing != (Standing::Unmanaged { watched: true }) {
            return;
        }
        let below = std::fs::read_dir(cgroup2.directory(&at))
            .into_iter()
            .flatten()
            .flatten();
        for entry in below {
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Some(name) = entry.file_name().to_str()
            {
                self.collect_not_decided(cgroup2, &format!("{path}/{name}"), found);
            }
        }
    }
}

/// The thread that classifies. Stops when dropped; what is classified stays.
#[derive(Debug)]
pub struct CgroupKeeper {
    inbox: Inbox,
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    managed: watch::Receiver<ManagedCgroups>,
    awaited: watch::Receiver<AwaitedCgroups>,
}

impl CgroupKeeper {
    /// Classifies every cgroup there is, then goes on as they come and go.
    ///
    /// Fails if a pattern matches the agent's own cgroup.
    pub fn start(kernel: Arc<Kernel>, patterns: Patterns) -> Result<Self, KernelError> {
        let inotify = Inotify::init().map_err(KernelError::system("inotify_init"))?;
        let (wake, woken) = UnixStream::pair().map_err(KernelError::system("socketpair"))?;
        woken
            .set_nonblocking(true)
            .map_err(KernelError::system("fcntl"))?;
        let (publish, managed) = watch::channel(ManagedCgroups::default());
        let (publish_awaited, awaited) = watch::channel(AwaitedCgroups::default());
        let mut keeper = Keeper {
            kernel,
            patterns,
            inotify,
            tree: BTreeMap::new(),
            watches: HashMap::new(),
            publish,
            publish_awaited,
        };
        keeper.begin()?;
        let inbox = Inbox::default();
        let requests = Arc::clone(&inbox);
        let thread = std::thread::Builder::new()
            .name("cgroups".to_owned())
            .spawn(move || {
                if let Err(error) = keeper.run(woken, &requests) {
                    // New cgroups stay unclassified from here on, which refuses them what is protected.
                    tracing::error!(%error, "cgroups are not watched any more: restart the agent");
                }
            })
            .map_err(KernelError::system("starting a thread"))?;
        Ok(Self {
            inbox,
            wake: Some(wake),
            thread: Some(thread),
            managed,
            awaited,
        })
    }

    /// Replaces the patterns, and blocks until everything is classified by them. One caller at a time. If that fails, for
    /// one because a pattern matches the agent's own cgroup, those from before stand.
    pub fn classify_by(&self, patterns: Patterns) -> Result<(), KernelError> {
        let (done, answer) = sync_channel(1);
        *self.inbox.lock() = Some((patterns, done));
        self.look_again();
        loop {
            match answer.recv_timeout(std::time::Duration::from_secs(1)) {
                Ok(classified) => return classified,
                Err(RecvTimeoutError::Timeout)
                    if self.thread.as_ref().is_some_and(|it| !it.is_finished()) => {}
                Err(_) => {
                    return Err(KernelError::system("classifying cgroups")(io::Error::other(
                        "the thread that does it has ended; restart the agent",
                    )));
                }
            }
        }
    }

    /// Has those looked at again of which it was not known under which policy they are.
    pub fn look_again(&self) {
        if let Some(mut wake) = self.wake.as_ref() {
            // Full: it has been woken already. Closed: it has ended, and nothing is classified any more.
            let _woken = wake.write(&[1]);
        }
    }

    /// The cgroups of which it has to be found out yet under which policy they are, as they change.
    pub fn awaited(&self) -> watch::Receiver<AwaitedCgroups> {
        self.awaited.clone()
    }

    /// The managed cgroups, as they change.
    pub fn managed(&self) -> watch::Receiver<ManagedCgroups> {
        self.managed.clone()
    }
}

impl Drop for CgroupKeeper {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// What the thread owns.
struct Keeper {
    kernel: Arc<Kernel>,
    patterns: Patterns,
    inotify: Inotify,
    /// Classified cgroups by their path below the root (`""`: the root).
    tree: BTreeMap<String, Node>,
    watches: HashMap<WatchDescriptor, String>,
    publish: watch::Sender<ManagedCgroups>,
    publish_awaited: watch::Sender<AwaitedCgroups>,
}

#[derive(Clone, PartialEq, Eq)]
struct Node {
    id: CgroupId,
    /// `None`: nothing is said of it yet.
    standing: Option<Standing>,
    /// By what it is managed, in words.
    by: Option<Arc<str>>,
    /// It has to be found out yet under which policy it is.
    awaited: bool,
}

impl Keeper {
    fn run(&mut self, mut woken: UnixStream, inbox: &Inbox) -> Result<(), KernelError> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let readable = {
                let mut sources = [
                    PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
                    PollFd::new(woken.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut sources, PollTimeout::NONE) {
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(errno) => return Err(KernelError::system("poll")(errno.into())),
                }
                sources.map(|source| source.any().unwrap_or(false))
            };
            let [changed, called] = readable;
            if called {
                let mut calls = [0; 64];
                match woken.read(&mut calls) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(KernelError::system("reading a wake-up")(error)),
                }
                let request = inbox.lock().take();
                match request {
                    // Whoever asked may have gone.
                    Some((patterns, done)) => {
                        let _unheard = done.send(self.classify_by(patterns));
                    }
                    None => self.look_again(),
                }
            }
            if changed {
                self.read_changes(&mut buffer)?;
            }
        }
    }

    fn read_changes(&mut self, buffer: &mut [u8]) -> Result<(), KernelError> {
        let events = match self.inotify.read_events(buffer) {
            Ok(events) => events,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(KernelError::system("reading inotify")(error)),
        };
        let mut lost = false;
        let mut changed = Vec::new();
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                lost = true;
            } else if event.mask.contains(EventMask::IGNORED) {
                self.watches.remove(&event.wd);
            } else if let (Some(parent), Some(name)) = (self.watches.get(&event.wd), event.name) {
                // Names that are not UTF-8 stay unclassified, so they are refused what is protected.
                if let Some(name) = name.to_str() {
                    changed.push(format!("{parent}/{name}"));
                }
            }
        }
        if lost {
            self.rescan_or_log();
            return Ok(());
        }
        for path in changed {
            self.reconcile(&path);
        }
        self.publish();
        Ok(())
    }

    fn classify_by(&mut self, patterns: Patterns) -> Result<(), KernelError> {
        let before = std::mem::replace(&mut self.patterns, patterns);
        let classified = self.begin();
        if classified.is_err() {
            self.patterns = before;
            if let Err(error) = self.begin() {
                tracing::error!(%error, "cgroups could not be classified as before; what was classified stands");
            }
        }
        classified
    }

    /// Lets the patterns count: first for what is made from now on, then for what there is.
    fn begin(&mut self) -> Result<(), KernelError> {
        for pattern in self.kernel.set_patterns(&self.patterns)? {
            tracing::warn!(
                pattern,
                "too many wildcards for the kernel side to tell new cgroups of this pattern by itself: each is refused what \
                 is protected until the agent has seen it"
            );
        }
        self.rescan()
    }

    /// Looks at those again of which it was not known under which policy they are.
    fn look_again(&mut self) {
        let awaited: Vec<String> = self
            .tree
            .iter()
            .filter(|(_, node)| node.awaited)
            .map(|(path, _)| path.clone())
            .collect();
        for path in awaited {
            let mut found = BTreeMap::new();
            if let Err(error) = self.visit(&path, &mut found) {
                tracing::error!(%error, path, "a cgroup could not be classified; it is refused what is protected");
            }
            self.tree.append(&mut found);
        }
        self.publish();
    }

    fn rescan_or_log(&mut self) {
        if let Err(error) = self.rescan() {
            tracing::error!(%error, "cgroups could not be classified anew; the classification before stands");
        }
    }

    /// Reads the whole hierarchy. What was classified before, by this agent or an earlier one, and is not any more, is
    /// forgotten when everything else is classified.
    fn rescan(&mut self) -> Result<(), KernelError> {
        // Asked for before the look: what is classified during it must not be taken for a leftover.
        let mut before = self.kernel.classified()?;
        let mut seen = BTreeMap::new();
        self.visit("", &mut seen)?;
        for node in seen.values() {
            before.remove(&node.id);
        }
        for id in before {
            self.kernel.forget(id)?;
        }
        self.tree = seen;
        self.publish();
        Ok(())
    }

    /// Looks at one path again after something happened there.
    fn reconcile(&mut self, path: &str) {
        let now = id_of_directory(&self.directory(path));
        let before = self.tree.get(path).map(|node| node.id);
        if now == before {
            return;
        }
        if before.is_some() {
            let below = format!("{path}/");
            let gone: Vec<_> = self
                .tree
                .extract_if(.., |known, _| known == path || known.starts_with(&below))
                .map(|(_, node)| node.id)
                .collect();
            for id in gone {
                if let Err(error) = self.kernel.forget(id) {
                    tracing::warn!(%error, "a cgroup that is gone could not be forgotten");
                }
            }
        }
        if now.is_some() {
            let mut found = BTreeMap::new();
            if let Err(error) = self.visit(path, &mut found) {
                tracing::error!(%error, path, "a cgroup could not be classified; it is refused what is protected");
            }
            self.tree.append(&mut found);
        }
    }

    /// Classifies `path` and what has to be classified below it. The watch comes before the look, so that what is
    /// made in between is seen by one of the two.
    fn visit(&mut self, path: &str, found: &mut BTreeMap<String, Node>) -> Result<(), KernelError> {
        let directory = self.directory(path);
        let Some(id) = id_of_directory(&directory) else {
            return Ok(());
        };
        if self.kernel.is_visitors(id)? {
            return Ok(());
        }
        let levels: Vec<&str> = path.split('/').filter(|level| !level.is_empty()).collect();
        let mut look = self.patterns.look(&levels);
        if !look.asked.is_empty() {
            match self.patterns.decide(id, &cgroup_path(path), &look.asked) {
                Decided::Under(policy, by) => {
                    look.standing = Standing::Managed(policy);
                    look.by = Some(by);
                }
                Decided::NoneOfThem => {}
                Decided::NotYet => {
                    let node = self.not_yet(id, &look.asked)?;
                    found.insert(path.to_owned(), node);
                    return Ok(());
                }
            }
        }
        let standing = look.standing;
        let watched = standing == Standing::Unmanaged { watched: true };
        if watched {
            let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::ONLYDIR;
            match self.inotify.watches().add(&directory, mask) {
                Ok(watch) => {
                    self.watches.insert(watch, path.to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => {
                    return Err(KernelError::system(format!("watching {}", directory.display()))(
                        error,
                    ));
                }
            }
        }
        if watched {
            // One that is gone meanwhile has nothing below it; its parent's watch says so.
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && let Some(name) = entry.file_name().to_str()
                {
                    self.visit(&format!("{path}/{name}"), found)?;
                }
            }
        }
        // After what is below: from now on an unclassified child is pending, and the security hooks keep whoever is
        // pending from bpf(2). The agent itself is in such a child, and could not go on.
        self.kernel.classify(id, &cgroup_path(path), standing)?;
        let node = Node {
            id,
            standing: Some(standing),
            by: look.by,
            awaited: false,
        };
        found.insert(path.to_owned(), node);
        Ok(())
    }

    /// A cgroup of which it is not known yet under which of `asked` it is. What was said of it before does not count any
    /// more, unless it is one of those: what a container is does not change, and it may hold connections.
    fn not_yet(&self, id: CgroupId, asked: &[PolicyId]) -> Result<Node, KernelError> {
        let before = self.kernel.policy_of(id)?.filter(|policy| asked.contains(policy));
        if before.is_none() {
            self.kernel.forget(id)?;
        }
        Ok(Node {
            id,
            standing: before.map(Standing::Managed),
            by: before.map(|_| Arc::from("what was found out before")),
            awaited: true,
        })
    }

    fn publish(&self) {
        let mut managed = BTreeMap::new();
        let mut awaited = BTreeMap::new();
        for (path, node) in &self.tree {
            if let Some(Standing::Managed(policy)) = node.standing {
                let cgroup = ManagedCgroup {
                    path: cgroup_path(path),
                    policy,
                    by: node.by.clone().unwrap_or_default(),
                };
                managed.insert(node.id, cgroup);
            }
            if node.awaited {
                awaited.insert(node.id, cgroup_path(path));
            }
        }
        replace_if_other(&self.publish, managed);
        replace_if_other(&self.publish_awaited, awaited);
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.kernel.cgroup2().directory(&cgroup_path(path))
    }
}

fn replace_if_other<T: PartialEq>(publish: &watch::Sender<Arc<T>>, now: T) {
    publish.send_if_modified(|current| {
        let changed = **current != now;
        if changed {
            *current = Arc::new(now);
        }
        changed
    });
}

fn cgroup_path(path: &str) -> CgroupPath {
    CgroupPath(if path.is_empty() { "/".into() } else { path.into() })
}
