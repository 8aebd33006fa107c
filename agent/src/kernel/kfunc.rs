//! Programs that the loader library cannot load: on hooks of unix sockets, with calls of functions of the kernel's own
//! (kfuncs).
//!
//! The object has them among the others. Here they are taken out of it, given the maps that the others use, and their
//! calls the numbers that the running kernel has for its functions; then they are loaded by bpf(2) itself.
#![expect(unsafe_code, reason = "bpf(2), for programs that aya does not load")]

use std::collections::HashSet;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use agent_common::kfunc as standin;
use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use super::KernelError;
use super::btf::KernelTypes;
use super::error::with_sources;

/// A hook of unix sockets at the cgroup2 root, as its `BPF_CGROUP_UNIX_*` number (linux/bpf.h), Linux 6.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixHook(u32);

impl UnixHook {
    /// `connect()`.
    pub(super) const CONNECT: Self = Self(49);
    /// `getpeername()`.
    pub(super) const GETPEERNAME: Self = Self(52);

    /// The number.
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for UnixHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::GETPEERNAME => "getpeername_unix",
            _ => "connect_unix",
        })
    }
}

/// `BPF_PROG_LOAD` (linux/bpf.h).
const PROG_LOAD: libc::c_long = 5;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const CGROUP_SOCK_ADDR: u32 = 18;
/// `BPF_JMP | BPF_CALL`: a call.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL`: the source register of a call that is one of the kernel's own functions.
const PSEUDO_KFUNC_CALL: u8 = 2;

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that is used.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Loads the program `name` of `object` for `hook`, with the maps of `ebpf`.
pub(super) fn load(
    ebpf: &Ebpf,
    object: &[u8],
    name: &'static str,
    hook: UnixHook,
) -> Result<OwnedFd, KernelError> {
    let failed = |reason: String| KernelError::Program {
        program: name,
        reason,
    };
    let numbers = Numbers::of_this_kernel().map_err(failed)?;
    let (mut instructions, license) = relocated(ebpf, object, name).map_err(failed)?;
    numbers.put_into(&mut instructions);
    call(name, hook, &instructions, &license).map_err(failed)
}

/// The kernel's numbers of the functions that the programs call.
struct Numbers {
    cast: i32,
    set: i32,
}

impl Numbers {
    /// An error is a kernel that has not all of it: it came with Linux 6.7.
    fn of_this_kernel() -> Result<Self, String> {
        let types = KernelTypes::read().map_err(|error| error.to_string())?;
        let function = |name: &str| {
            types
                .function(name)
                .and_then(|number| i32::try_from(number).ok())
                .ok_or_else(|| format!("this kernel has no {name}: it takes Linux 6.7 or newer"))
        };
        let found = Self {
            set: function("bpf_sock_addr_set_sun_path")?,
            cast: function("bpf_cast_to_kern_ctx")?,
        };
        for (field, expected) in [("uaddr", standin::UADDR), ("uaddrlen", standin::UADDRLEN)] {
            if types.offset("bpf_sock_addr_kern", field) != Some(expected) {
                return Err(format!(
                    "this kernel has {field} elsewhere in bpf_sock_addr_kern than this tollgate knows: a newer tollgate may know"
                ));
            }
        }
        Ok(found)
    }

    fn put_into(&self, instructions: &mut [bpf_insn]) {
        for instruction in instructions.iter_mut().filter(|found| found.code == CALL) {
            let number = match instruction.imm {
                standin::CAST_TO_KERN_CTX => self.cast,
                standin::SET_SUN_PATH => self.set,
                _ => continue,
            };
            instruction.imm = number;
            instruction.set_src_reg(PSEUDO_KFUNC_CALL);
        }
    }
}

/// The instructions of the program, with the descriptors of the maps in them, and the object's licence.
fn relocated(ebpf: &Ebpf, object: &[u8], name: &str) -> Result<(Vec<bpf_insn>, CString), String> {
    let mut object = Object::parse(object).map_err(|error| with_sources(&error))?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let described = object.maps.clone();
    let mut maps = Vec::new();
    for (name, map) in &described {
        // One that is left out would be taken for another of its section.
        let made = ebpf.map(name).and_then(data);
        let made = made.ok_or_else(|| format!("the map {name} is of a kind that is not expected"))?;
        maps.push((name.as_str(), made.fd().as_fd().as_raw_fd(), map));
    }
    object
        .relocate_maps(maps.into_iter(), &sections)
        .map_err(|error| with_sources(&error))?;
    object
        .relocate_calls(&sections)
        .map_err(|error| with_sources(&error))?;
    let function = object
        .programs
        .get(name)
        .and_then(|program| object.functions.get(&program.function_key()))
        .ok_or("it is not in the eBPF object: build agent and object from the same source")?;
    Ok((function.instructions.clone(), object.license))
}

/// The map itself, of the kinds that the object has.
fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(map)
        | Map::HashMap(map)
        | Map::LpmTrie(map)
        | Map::LruHashMap(map)
        | Map::PerCpuArray(map)
        | Map::PerCpuHashMap(map)
        | Map::PerCpuLruHashMap(map)
        | Map::RingBuf(map)
        | Map::SkStorage(map) => Some(map),
        _ => None,
    }
}

fn call(name: &str, hook: UnixHook, instructions: &[bpf_insn], license: &CString) -> Result<OwnedFd, String> {
    let attempt = |log: &mut [u8]| -> io::Result<OwnedFd> {
        let mut prog_name = [0; 16];
        // The last byte stays zero.
        for (to, from) in prog_name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        let attributes = LoadAttributes {
            prog_type: CGROUP_SOCK_ADDR,
            insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            insns: instructions.as_ptr().addr() as u64,
            license: license.as_ptr().addr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
            log_buf: if log.is_empty() {
                0
            } else {
                log.as_mut_ptr().addr() as u64
            },
            prog_name,
            expected_attach_type: hook.0,
            ..LoadAttributes::default()
        };
        // SAFETY: the attributes and everything that they point to live until the call is over; the kernel writes to the
        // log alone, and not beyond its size.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                PROG_LOAD,
                &raw const attributes,
                size_of::<LoadAttributes>(),
            )
        };
        descriptor(fd)
    };
    attempt(&mut []).or_else(|error| {
        // Asked for only now: writing the log takes longer than the verdict.
        let mut log = vec![0; 1 << 20];
        attempt(&mut log).map_err(|_| {
            let text =
                String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
            let mut words: Vec<&str> = text.lines().rev().take(12).collect();
            words.reverse();
            format!("{error}; the verifier's last words: {}", words.join(" | "))
        })
    })
}

/// The descriptor that bpf(2) has made, or its error.
pub(super) fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = libc::c_int::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
