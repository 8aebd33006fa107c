//! Loading the object, and attaching its programs at the root of the hierarchy.

use std::fs::File;

use aya::programs::links::FdLink;
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, Program, ProgramError,
    SockOps,
};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};

use super::KernelError;
use super::error::with_sources;
use super::generation::Generation;

/// The programs. The second wall comes first and goes last; the redirection comes when everything that it leans on
/// is there.
pub(super) const LINKS_IN_ORDER_OF_ATTACHMENT: [&str; 9] = [
    "tollgate_egress",
    "tollgate_socket",
    "tollgate_bind4",
    "tollgate_bind6",
    "tollgate_peer4",
    "tollgate_peer6",
    "tollgate_sockops",
    "tollgate_connect4",
    "tollgate_connect6",
];

/// Maps of the object that are pinned.
const MAPS: [&str; 10] = [
    "CGROUPS",
    "POLICIES",
    "PROTECTED",
    "PROXY",
    "BINDER",
    "TUPLES",
    "ORIGINAL",
    "LISTENERS",
    "EVENTS",
    "STATS",
];

/// The object, embedded by the build script; empty if it was not built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tollgate-ebpf"));

/// Loads every map and program of the embedded object; attaches nothing.
pub(super) fn load() -> Result<Ebpf, KernelError> {
    if OBJECT.is_empty() {
        return Err(KernelError::NoObject);
    }
    let mut ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .load(OBJECT)
        .map_err(|error| KernelError::Object {
            reason: with_sources(&error),
        })?;
    for name in LINKS_IN_ORDER_OF_ATTACHMENT {
        let refused = |error: ProgramError| program_error(name, &error);
        match program(&mut ebpf, name)? {
            Program::CgroupSkb(program) => program.load().map_err(refused)?,
            Program::CgroupSock(program) => program.load().map_err(refused)?,
            Program::CgroupSockAddr(program) => program.load().map_err(refused)?,
            Program::SockOps(program) => program.load().map_err(refused)?,
            _ => return Err(unexpected(name)),
        }
    }
    Ok(ebpf)
}

/// Pins the maps, then attaches and pins one program after the other.
pub(super) fn attach(ebpf: &mut Ebpf, root: &File, generation: &Generation) -> Result<(), KernelError> {
    for name in MAPS {
        let map = ebpf.map(name).ok_or_else(|| missing_map(name))?;
        map.pin(generation.map(name)).map_err(|error| KernelError::Map {
            map: name,
            operation: "a pin",
            reason: with_sources(&error),
        })?;
    }
    for name in LINKS_IN_ORDER_OF_ATTACHMENT {
        let link = attach_one(ebpf, root, name)?;
        link.pin(generation.link(name))
            .map_err(|error| KernelError::Program {
                program: name,
                reason: with_sources(&error),
            })?;
    }
    Ok(())
}

/// `Single` with a link lets other programs be attached beside it: links are always multi.
fn attach_one(ebpf: &mut Ebpf, root: &File, name: &'static str) -> Result<FdLink, KernelError> {
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    macro_rules! attach {
        ($program:expr, $($argument:expr),*) => {{
            let program = $program;
            let id = program.attach($($argument),*).map_err(|error| program_error(name, &error))?;
            let link = program.take_link(id).map_err(|error| program_error(name, &error))?;
            link.try_into().map_err(|error: aya::programs::links::LinkError| KernelError::Program {
                program: name,
                reason: with_sources(&error),
            })
        }};
    }
    match program(ebpf, name)? {
        Program::CgroupSkb(program) => {
            attach!(program as &mut CgroupSkb, root, CgroupSkbAttachType::Egress, MODE)
        }
        Program::CgroupSock(program) => attach!(program as &mut CgroupSock, root, MODE),
        Program::CgroupSockAddr(program) => attach!(program as &mut CgroupSockAddr, root, MODE),
        Program::SockOps(program) => attach!(program as &mut SockOps, root, MODE),
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
