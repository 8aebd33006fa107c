//! `file_permission`, `inode_permission`: bytes on sockets that go past the socket hooks, other cgroups, and pins.

use agent_common::{EventKind, Standing, may_write_cgroup};
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

use super::socket::judge_file;
use super::{Kernel, PROCEED, load, read, refuse, standing_of_cgroup};
use crate::ask;
use crate::fields::{
    FILE_INODE, INODE_MODE, INODE_PRIVATE, INODE_SUPER, NODE_PARENT, NODE_PRIVATE, SUPER_MAGIC, field,
};

/// `MAY_WRITE`, `MAY_APPEND` (linux/fs.h).
const WRITES: i32 = 2 | 8;
/// `S_IFMT` and kinds of it.
const KIND: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;
const DIRECTORY: u16 = 0o040_000;
/// Magic numbers of file systems (linux/magic.h).
const CGROUP2: u64 = 0x6367_7270;
const BPF: u64 = 0xcafe_4a11;

/// Bytes to or from an open file. Up to Linux 6.4, `sendfile()` and `splice()` to a socket pass here and no socket hook; and a
/// file of a cgroup may have been opened by somebody else.
#[lsm(hook = "file_permission")]
pub(crate) fn tollgate_file(ctx: LsmContext) -> i32 {
    let file: Kernel = ctx.arg(0);
    let mask: i32 = ctx.arg(1);
    let inode: Kernel = load(file, field(&FILE_INODE));
    let mode = load::<u16>(inode, field(&INODE_MODE));
    if mode & KIND == SOCKET {
        return judge_file(file);
    }
    if mask & WRITES == 0 {
        return PROCEED;
    }
    writes(inode, mode)
}

/// A path on the way to an open, a new name, a removal.
#[lsm(hook = "inode_permission")]
pub(crate) fn tollgate_inode(ctx: LsmContext) -> i32 {
    let inode: Kernel = ctx.arg(0);
    let mask: i32 = ctx.arg(1);
    if mask & WRITES == 0 {
        return PROCEED;
    }
    writes(inode, load::<u16>(inode, field(&INODE_MODE)))
}

#[inline(always)]
fn writes(inode: Kernel, mode: u16) -> i32 {
    let super_block: Kernel = load(inode, field(&INODE_SUPER));
    let magic = load::<u64>(super_block, field(&SUPER_MAGIC));
    if magic != CGROUP2 && magic != BPF {
        return PROCEED;
    }
    let standing = ask::current_standing();
    if matches!(standing, Standing::Free) {
        return PROCEED;
    }
    if magic == BPF {
        return refuse(EventKind::PinRefused, standing);
    }
    if may_write_cgroup(standing, standing_of_inode(inode, mode)) {
        PROCEED
    } else {
        refuse(EventKind::CgroupRefused, standing)
    }
}

/// How the cgroup stands that a file or directory of the hierarchy belongs to.
#[inline(always)]
fn standing_of_inode(inode: Kernel, mode: u16) -> Standing {
    let node = read::<Kernel>(inode, field(&INODE_PRIVATE));
    let directory = if mode & KIND == DIRECTORY {
        node
    } else {
        read(node, field(&NODE_PARENT))
    };
    standing_of_cgroup(read(directory, field(&NODE_PRIVATE)))
}
