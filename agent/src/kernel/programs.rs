//! The programs of the object: which there are, what each hangs on, and how they are loaded and attached.
//!
//! A new program is one line in [`PROGRAMS`], a new map one in [`MAPS`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use aya::maps::MapInfo;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};

use super::KernelError;
use super::error::with_sources;
use super::fields::{self, Field, Places};
use super::generation::Generation;
use super::kfunc::{self, UnixHook};
use super::link::PinnedLink;
use super::security;

/// One program of the object.
#[derive(Debug)]
pub(super) struct ProgramSpec {
    /// Its function in the object, and of its link's pin.
    pub(super) name: &'static str,
    /// What it hangs on.
    pub(super) hook: Hook,
    /// Whether the agent can do without it.
    pub(super) need: Need,
    /// What it reads in the kernel's structures.
    pub(super) fields: &'static [Field],
}

/// What a program hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The root of the cgroup2 hierarchy, at the place that the program's section in the object names.
    Cgroup,
    /// The root of the cgroup2 hierarchy, on TCP's own moments, and only while it is asked for ([`super::resend`]).
    SockOps,
    /// The root of the cgroup2 hierarchy, at a hook of unix sockets.
    Unix(UnixHook),
    /// A tracepoint, by its name in the kernel's BTF (`btf_trace_NAME`).
    Tracepoint(&'static str),
    /// A security hook, by its name in the kernel's BTF (`bpf_lsm_NAME`).
    Lsm(&'static str),
}

impl Hook {
    /// Whether it is one of the cgroup2 root where a program is at all times, and links are updated and detached.
    pub(super) fn is_of_cgroup(self) -> bool {
        matches!(self, Self::Cgroup | Self::Unix(_))
    }
}

/// Whether the agent can do without a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It does not start without it.
    Always,
    /// A kernel may refuse it; what is then weaker is said, and a policy can demand it.
    WhereTheKernelCan,
}

const fn cgroup(name: &'static str) -> ProgramSpec {
    ProgramSpec {
        name,
        hook: Hook::Cgroup,
        need: Need::Always,
        fields: &[],
    }
}

const fn tracepoint(name: &'static str, tracepoint: &'static str, fields: &'static [Field]) -> ProgramSpec {
    ProgramSpec {
        name,
        hook: Hook::Tracepoint(tracepoint),
        need: Need::WhereTheKernelCan,
        fields,
    }
}

const fn unix(name: &'static str, hook: UnixHook) -> ProgramSpec {
    ProgramSpec {
        name,
        hook: Hook::Unix(hook),
        need: Need::WhereTheKernelCan,
        fields: &[],
    }
}

const fn lsm(name: &'static str, hook: &'static str, fields: &'static [Field]) -> ProgramSpec {
    ProgramSpec {
        name,
        hook: Hook::Lsm(hook),
        need: Need::WhereTheKernelCan,
        fields,
    }
}

/// See [`super::resend`].
const ON_DEMAND: ProgramSpec = ProgramSpec {
    name: "tollgate_sockops",
    hook: Hook::SockOps,
    need: Need::Always,
    fields: &[],
};

/// The programs in the order of their attachment. The second wall comes first and goes last; the redirection comes when
/// everything that it leans on is there.
pub(super) const PROGRAMS: &[ProgramSpec] = &[
    cgroup("tollgate_egress"),
    cgroup("tollgate_socket"),
    cgroup("tollgate_bind4"),
    cgroup("tollgate_bind6"),
    cgroup("tollgate_peer4"),
    cgroup("tollgate_peer6"),
    cgroup("tollgate_receive4"),
    cgroup("tollgate_receive6"),
    ON_DEMAND,
    cgroup("tollgate_send4"),
    cgroup("tollgate_send6"),
    cgroup("tollgate_connect4"),
    cgroup("tollgate_connect6"),
    unix("tollgate_unix_peer", UnixHook::GETPEERNAME),
    unix("tollgate_unix", UnixHook::CONNECT),
    tracepoint("tollgate_rmdir", "cgroup_rmdir", fields::CGROUP),
    tracepoint("tollgate_mkdir", "cgroup_mkdir", fields::CGROUP),
    lsm("tollgate_family", "socket_create", &[]),
    lsm("tollgate_sendmsg", "socket_sendmsg", fields::SOCKET),
    lsm("tollgate_recvmsg", "socket_recvmsg", fields::SOCKET),
    lsm("tollgate_option", "socket_getsockopt", fields::SOCKET),
    lsm("tollgate_file", "file_permission", fields::FILE),
    lsm("tollgate_unix_link", "unix_stream_connect", fields::UNIX),
    lsm("tollgate_ptrace", "ptrace_access_check", fields::STANDING),
    lsm("tollgate_kill", "task_kill", fields::STANDING),
    lsm("tollgate_bpf", "bpf", &[]),
    lsm("tollgate_locked_down", "locked_down", &[]),
    lsm("tollgate_inode", "inode_permission", fields::FILE),
];

/// Maps of the object that are pinned.
pub(super) const MAPS: &[&str] = &[
    "HOST",
    "CGROUPS",
    "PATTERNS",
    "PATTERNS_TURN",
    "POLICIES",
    "PROTECTED",
    "PROXY",
    "BINDER",
    "AGENT",
    "TUPLES",
    "ORIGINAL",
    "LISTENERS",
    "ASKED",
    "QUERIES",
    "REPORTED",
    "UNIX_NAMES",
    "UNIX_FLOWS",
    "OBSERVED",
    "BORN",
    "ALIVE",
    "NAMESPACES",
    "EVENTS",
    "STATS",
];

/// Maps without which what was closed would be open: links are not given programs that work with new ones of these.
const CLOSING: &[&str] = &["HOST", "CGROUPS", "PROTECTED", "UNIX_NAMES"];

/// The object, embedded by the build script; empty if it was not built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tollgate-ebpf"));

/// A program that the kernel refused and that the agent can do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The program.
    pub program: &'static str,
    /// What the kernel said.
    pub reason: String,
}

/// The object with its programs loaded.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// Loaded programs that the loader library does not know.
    unix: BTreeMap<&'static str, OwnedFd>,
    /// Programs that are not loaded.
    pub(super) lacking: Vec<Lacking>,
}

impl Loaded {
    /// The program that is attached when it is asked for, and its name.
    pub(super) fn on_demand(&self) -> Result<(&'static str, OwnedFd), KernelError> {
        let program = self.ebpf.program(ON_DEMAND.name);
        let program = program.and_then(|program| program.fd().ok());
        let program = program.ok_or_else(|| unexpected(ON_DEMAND.name))?;
        let copy = program.as_fd().try_clone_to_owned();
        let copy = copy.map_err(KernelError::system("duplicating the descriptor of a program"))?;
        Ok((ON_DEMAND.name, copy))
    }
}

/// Whether the pinned maps of `generation` have the sizes that the object's maps have. A map that is not pinned yet fits,
/// unless links are pinned that would open for it.
///
/// The layout's version is what says it; this finds out where somebody forgot to raise it.
pub(super) fn maps_fit(generation: &Generation) -> bool {
    let Ok(object) = aya_obj::Object::parse(OBJECT) else {
        return false;
    };
    let linked = PROGRAMS.iter().any(|spec| generation.link(spec.name).exists());
    MAPS.iter().all(|name| {
        let path = generation.map(name);
        if !path.exists() {
            return !(linked && CLOSING.contains(name));
        }
        match (object.maps.get(*name), MapInfo::from_pin(&path)) {
            (Some(ours), Ok(pinned)) => {
                ours.key_size() == pinned.key_size()
                    && ours.value_size() == pinned.value_size()
                    && ours.max_entries() == pinned.max_entries()
                    && ours.map_flags() == pinned.map_flags()
            }
            _ => false,
        }
    })
}

/// Loads every program of the embedded object; attaches nothing. Its maps are those that are pinned in `generation`;
/// what is not there yet is made and pinned.
pub(super) fn load(generation: &Generation) -> Result<Loaded, KernelError> {
    let places = places()?;
    let mut loader = loader()?;
    for name in MAPS {
        loader.map_pin_path(name, generation.map(name));
    }
    load_with(&mut loader, places)
}

/// Has the kernel look at every program of the embedded object, with maps that nobody else has, and forgets them again.
/// Gives those that it refuses and that the agent can do without.
pub(super) fn try_load() -> Result<Vec<Lacking>, KernelError> {
    let places = places()?;
    load_with(&mut loader()?, places).map(|loaded| loaded.lacking)
}

/// The running kernel stays the same, so it is asked once.
fn places() -> Result<&'static Places, KernelError> {
    static PLACES: OnceLock<Places> = OnceLock::new();
    if let Some(known) = PLACES.get() {
        return Ok(known);
    }
    let read = Places::read(PROGRAMS.iter().flat_map(|spec| spec.fields).copied())?;
    Ok(PLACES.get_or_init(|| read))
}

fn loader<'a>() -> Result<EbpfLoader<'a>, KernelError> {
    if OBJECT.is_empty() {
        return Err(KernelError::NoObject);
    }
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(VerifierLogLevel::STATS);
    Ok(loader)
}

fn load_with<'a>(loader: &mut EbpfLoader<'a>, places: &'a Places) -> Result<Loaded, KernelError> {
    let (mut ebpf, btf) = open_object(loader, places)?;
    let mut lacking = Vec::new();
    let mut unix = BTreeMap::new();
    for spec in PROGRAMS {
        match (load_any(&mut ebpf, &btf, places, spec), spec.need) {
            (Ok(program), _) => unix.extend(program.map(|program| (spec.name, program))),
            (Err(KernelError::Program { program, reason }), Need::WhereTheKernelCan) => {
                lacking.push(Lacking { program, reason });
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok(Loaded { ebpf, unix, lacking })
}

/// Makes the maps of the embedded object; loads no program yet.
fn open_object<'a>(loader: &mut EbpfLoader<'a>, places: &'a Places) -> Result<(Ebpf, Btf), KernelError> {
    for (variable, place) in places.variables() {
        loader.override_global(variable, place, true);
    }
    let ebpf = loader.load(OBJECT).map_err(|error| KernelError::Object {
        reason: with_sources(&error),
    })?;
    let btf = Btf::from_sys_fs().map_err(|error| KernelError::Object {
        reason: with_sources(&error),
    })?;
    Ok((ebpf, btf))
}

/// Whether the kernel takes one program.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The program.
    pub program: &'static str,
    /// What it hangs on.
    pub hook: Hook,
    /// Whether the agent can do without it.
    pub need: Need,
    /// What the kernel says to it; the error is its reason.
    pub taken: Result<(), String>,
}

/// Loads each program of the object for a trial, and lets go of it again. Attaches and pins nothing.
pub fn trial() -> Result<Vec<Trial>, KernelError> {
    let places = places()?;
    let (mut ebpf, btf) = open_object(&mut loader()?, places)?;
    Ok(PROGRAMS
        .iter()
        .map(|spec| Trial {
            program: spec.name,
            hook: spec.hook,
            need: spec.need,
            taken: match load_any(&mut ebpf, &btf, places, spec) {
                Ok(_) => Ok(()),
                Err(KernelError::Program { reason, .. }) => Err(reason),
                Err(error) => Err(error.to_string()),
            },
        })
        .collect())
}

/// Loads a program; gives it where the library does not know it.
fn load_any(
    ebpf: &mut Ebpf,
    btf: &Btf,
    places: &Places,
    spec: &ProgramSpec,
) -> Result<Option<OwnedFd>, KernelError> {
    if let Some(reason) = places.lack(spec.fields) {
        return Err(KernelError::Program {
            program: spec.name,
            reason,
        });
    }
    match spec.hook {
        Hook::Unix(hook) => kfunc::load(ebpf, OBJECT, spec.name, hook).map(Some),
        Hook::Lsm(_) if let Some(reason) = security::refusal() => Err(KernelError::Program {
            program: spec.name,
            reason: reason.to_owned(),
        }),
        _ => load_one(ebpf, btf, spec).map(|()| None),
    }
}

fn load_one(ebpf: &mut Ebpf, btf: &Btf, spec: &ProgramSpec) -> Result<(), KernelError> {
    let name = spec.name;
    let loaded = match (program(ebpf, name)?, spec.hook) {
        (Program::CgroupSkb(program), Hook::Cgroup) => program.load(),
        (Program::CgroupSock(program), Hook::Cgroup) => program.load(),
        (Program::CgroupSockAddr(program), Hook::Cgroup) => program.load(),
        (Program::SockOps(program), Hook::SockOps) => program.load(),
        (Program::BtfTracePoint(program), Hook::Tracepoint(tracepoint)) => program.load(tracepoint, btf),
        (Program::Lsm(program), Hook::Lsm(hook)) => program.load(hook, btf),
        _ => return Err(unexpected(name)),
    };
    loaded.map_err(|error| program_error(name, &error))
}

/// Puts one loaded program after the other into its pinned link; where there is none, or one that is not attached any
/// more, attaches and pins it. At no moment is a program that was attached before without a successor.
pub(super) fn attach(loaded: &mut Loaded, root: &File, generation: &Generation) -> Result<(), KernelError> {
    for spec in PROGRAMS {
        let name = spec.name;
        if spec.hook == Hook::SockOps || loaded.lacking.iter().any(|lack| lack.program == name) {
            continue;
        }
        let attached = if spec.hook.is_of_cgroup() && updated(loaded, generation, name) {
            Ok(())
        } else {
            match spec.hook {
                Hook::Unix(hook) => attach_unix(loaded, root, name, hook),
                _ => attach_one(&mut loaded.ebpf, root, name).map(NewLink::Library),
            }
            .and_then(|link| replace(link, generation, name))
        };
        match (attached, spec.need) {
            (Ok(()), _) => {}
            // Where security hooks are compiled in but not active, only the attachment is refused.
            (Err(KernelError::Program { program, reason }), Need::WhereTheKernelCan) => {
                loaded.lacking.push(Lacking { program, reason });
            }
            (Err(error), _) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the pinned link of `name` runs the loaded program from here on.
fn updated(loaded: &Loaded, generation: &Generation, name: &str) -> bool {
    let library = loaded
        .ebpf
        .program(name)
        .and_then(|program| program.fd().ok())
        .map(AsFd::as_fd);
    let Some(program) = loaded.unix.get(name).map(AsFd::as_fd).or(library) else {
        return false;
    };
    let path = generation.link(name);
    match PinnedLink::open(&path).and_then(|link| link.update(program)) {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(link = %path.display(), %error, "a pinned link is not attached any more; it is made anew");
            }
            false
        }
    }
}

/// A link that is not pinned yet.
enum NewLink {
    /// Made by the loader library.
    Library(FdLink),
    /// Made without it.
    Unix(PinnedLink),
}

fn attach_unix(
    loaded: &Loaded,
    root: &File,
    name: &'static str,
    hook: UnixHook,
) -> Result<NewLink, KernelError> {
    let program = loaded.unix.get(name).ok_or_else(|| unexpected(name))?;
    PinnedLink::attach(program.as_fd(), root.as_fd(), hook.number())
        .map(NewLink::Unix)
        .map_err(|error| KernelError::Program {
            program: name,
            reason: format!("it could not be attached: {error}"),
        })
}

/// Pins `link` in the place of the one that is pinned there, if any, which ends by that.
fn replace(link: NewLink, generation: &Generation, name: &'static str) -> Result<(), KernelError> {
    let failed = |reason: String| KernelError::Program {
        program: name,
        reason,
    };
    let coming = generation.coming_link(name);
    // Left by a start that was killed at this very place.
    if coming.exists() {
        fs::remove_file(&coming)
            .map_err(|error| failed(format!("removing {}: {error}", coming.display())))?;
    }
    match link {
        NewLink::Library(link) => drop(link.pin(&coming).map_err(|error| failed(with_sources(&error)))?),
        NewLink::Unix(link) => link
            .pin(&coming)
            .map_err(|error| failed(format!("its link could not be pinned: {error}")))?,
    }
    fs::rename(&coming, generation.link(name)).map_err(|error| failed(format!("renaming its pin: {error}")))
}

/// `Single` with a link lets other programs be attached beside it: links are always multi.
fn attach_one(ebpf: &mut Ebpf, root: &File, name: &'static str) -> Result<FdLink, KernelError> {
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    macro_rules! attach {
        ($program:expr $(, $argument:expr)*) => {{
            let program = $program;
            let id = program.attach($($argument),*).map_err(|error| program_error(name, &error))?;
            let link = program.take_link(id).map_err(|error| program_error(name, &error))?;
            FdLink::try_from(link).map_err(|error| KernelError::Program {
                program: name,
                reason: with_sources(&error),
            })
        }};
    }
    match program(ebpf, name)? {
        Program::CgroupSkb(program) => attach!(program, root, CgroupSkbAttachType::Egress, MODE),
        Program::CgroupSock(program) => attach!(program, root, MODE),
        Program::CgroupSockAddr(program) => attach!(program, root, MODE),
        Program::BtfTracePoint(program) => attach!(program),
        Program::Lsm(program) => attach!(program),
        _ => Err(unexpected(name)),
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, KernelError> {
    ebpf.program_mut(name).ok_or_else(|| unexpected(name))
}

fn unexpected(name: &'static str) -> KernelError {
    KernelError::Program {
        program: name,
        reason: "it is not in the eBPF object as expected: build agent and object from the same source"
            .to_owned(),
    }
}

pub(super) fn missing_map(name: &'static str) -> KernelError {
    KernelError::Map {
        map: name,
        operation: "a look-up",
        reason: "it is not in the eBPF object: build agent and object from the same source".to_owned(),
    }
}

fn program_error(program: &'static str, error: &ProgramError) -> KernelError {
    let reason = match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let tail = log.lines().rev().take(12).collect::<Vec<_>>();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join(" | ");
            format!("{io_error}; the verifier's last words: {tail}")
        }
        other => with_sources(other),
    };
    KernelError::Program { program, reason }
}
